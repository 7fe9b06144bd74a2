//! Three hops on plain TCP connections with no delay: who asks sends to a second process, which passes it on to a third, which answers. What is
//! served in this way takes no round trip less.

use super::ping::{MOST, REQUEST, Wanted};
use super::{IDLE, Line, call};
use crate::samples::Samples;
use anyhow::{Context, Result};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// What comes first on a connection to who answers: whether requests will come on it, or answers go.
const REQUESTS: u8 = 1;
const ANSWERS: u8 = 2;

/// Answers what one caller has passed on to it, until a connection closes; returns the port.
pub(crate) fn serve_last(spin: Duration) -> Result<u16> {
    serve(spin, |listener, spin| {
        let (mut requests, mut answers) = (None, None);
        while requests.is_none() || answers.is_none() {
            let mut line = accept(listener, spin)?;
            let mut role = [0];
            line.receive(&mut role)?;
            match role[0] {
                REQUESTS => requests = Some(line),
                ANSWERS => answers = Some(line),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let (Some(mut requests), Some(mut answers)) = (requests, answers) else { return Ok(()) };
        let mut request = [0; REQUEST];
        let bytes = vec![7; MOST];
        loop {
            requests.receive(&mut request)?;
            let reply = bytes.get(..Wanted::decode(&request).reply as usize);
            answers.send(reply.ok_or(io::ErrorKind::InvalidData)?)?;
        }
    })
}

/// Passes what one caller asks on to the port that it names first, until a connection closes; returns the port.
pub(crate) fn serve_middle(spin: Duration) -> Result<u16> {
    serve(spin, |listener, spin| {
        let mut line = accept(listener, spin)?;
        let mut port = [0; 2];
        line.receive(&mut port)?;
        let mut next = call(u16::from_le_bytes(port), spin).map_err(io::Error::other)?;
        next.send(&[REQUESTS])?;
        let mut request = [0; REQUEST];
        loop {
            line.receive(&mut request)?;
            next.send(&request)?;
        }
    })
}

fn serve(spin: Duration, work: fn(&TcpListener, Duration) -> io::Result<()>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for the baseline")?;
    let port = listener.local_addr()?.port();
    // A caller that goes ends the thread; that is how it ends.
    std::thread::Builder::new().name("baseline".to_owned()).spawn(move || work(&listener, spin))?;
    Ok(port)
}

fn accept(listener: &TcpListener, spin: Duration) -> io::Result<Line> {
    Line::new(listener.accept()?.0, spin, IDLE)
}

/// The side that asks.
#[derive(Debug)]
pub(crate) struct Circle {
    requests: Line,
    answers: Line,
}

impl Circle {
    /// By way of who listens at `middle`, to who listens at `last`.
    pub(crate) fn connect(middle: u16, last: u16, spin: Duration) -> Result<Circle> {
        let (mut requests, mut answers) = (call(middle, spin)?, call(last, spin)?);
        requests.send(&last.to_le_bytes())?;
        answers.send(&[ANSWERS])?;
        Ok(Circle { requests, answers })
    }

    /// `count` times 64 bytes there and on, and `reply` bytes back.
    pub(crate) fn go(&mut self, reply: usize, count: usize) -> Result<Samples> {
        let wanted = Wanted { more: 0, reply: reply as u32, pieces: 1, goes_on: false }.encode();
        let mut back = vec![0; reply];
        Ok(Samples::of(count, || {
            self.requests.send(&wanted)?;
            self.answers.receive(&mut back)
        })?)
    }
}
