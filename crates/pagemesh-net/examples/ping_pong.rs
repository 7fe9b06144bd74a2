//! Measures the switch against the bare socket: a request of 64 bytes, a reply of 4160, between two processes.
//!
//! `ping_pong [rounds] [core of the server] [spin in us] [timeout of a wait in ms]`: the client runs on core 0. Rounds of both kinds take turns,
//! so that both meet the same disturbances; the ratio is that of the medians of one round, and the median of
//! those is printed. Run it in release mode.

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagemesh_net::{LinkLoss, PAGE_BYTES, Receiver, Reject, Switch};
use rustix::thread::{CpuSet, sched_setaffinity};

const REQUEST_BYTES: usize = 64;
const REPLY_BYTES: usize = 64 + PAGE_BYTES;
const MESSAGE_BYTES: usize = 56;
const ROUND_TRIPS: usize = 4000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve-raw") => serve_raw(&arguments[1], &arguments[2]),
        Some("serve-switch") => serve_switch(&arguments[1], &arguments[2], &arguments[3]),
        _ => measure(&arguments),
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn serve_raw(address: &str, core: &str) -> Result<(), Box<dyn Error>> {
    pin(core.parse()?)?;
    let mut stream = dial(address)?;
    let mut request = [0; REQUEST_BYTES];
    let reply = [7; REPLY_BYTES];
    while stream.read_exact(&mut request).is_ok() {
        stream.write_all(&reply)?;
    }
    Ok(())
}

/// Answers every message with itself and a page.
struct Owner<'a> {
    switch: &'a Switch,
    page: Vec<u8>,
    gone: bool,
}

impl Receiver for Owner<'_> {
    fn on_frame(&mut self, peer: u16, message: &[u8], _: &[u8]) -> Result<(), Reject> {
        let sent =
            self.switch.enqueue_with(peer, message, PAGE_BYTES, |place| place.copy_from_slice(&self.page));
        sent.map_err(|error| Reject::from(error.to_string()))
    }
    fn on_lost(&mut self, _: u16, _: LinkLoss) {
        self.gone = true;
    }
}

fn serve_switch(address: &str, core: &str, spin_us: &str) -> Result<(), Box<dyn Error>> {
    pin(core.parse()?)?;
    let switch = Switch::new(1, vec![Some(dial(address)?), None])?;
    switch.set_service_spin(Duration::from_micros(spin_us.parse()?));
    let mut owner = Owner { switch: &switch, page: vec![7; PAGE_BYTES], gone: false };
    while !owner.gone {
        switch.wait_service(None, &mut owner)?;
    }
    Ok(())
}

/// Takes the page, as a faulting thread would: into its own memory.
struct Faulter {
    page: Vec<u8>,
    arrived: bool,
}

impl Receiver for Faulter {
    fn on_frame(&mut self, _: u16, _: &[u8], payload: &[u8]) -> Result<(), Reject> {
        self.page.copy_from_slice(payload);
        self.arrived = true;
        Ok(())
    }
    fn on_lost(&mut self, _: u16, _: LinkLoss) {}
}

struct Nobody;

impl Receiver for Nobody {
    fn on_frame(&mut self, _: u16, _: &[u8], _: &[u8]) -> Result<(), Reject> {
        Err(Reject::from("the service thread received what the leader waits for"))
    }
    fn on_lost(&mut self, _: u16, _: LinkLoss) {}
}

fn start(listener: &TcpListener, arguments: &[&str]) -> Result<(Child, TcpStream), Box<dyn Error>> {
    let address = listener.local_addr()?.to_string();
    let child = Command::new(env::current_exe()?)
        .args([&arguments[..1], &[address.as_str()], &arguments[1..]].concat())
        .stdin(Stdio::null())
        .spawn()?;
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok((child, stream))
}

fn measure(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let text = |index: usize, default: &'static str| arguments.get(index).map_or(default, String::as_str);
    let rounds: usize = text(0, "9").parse()?;
    let (core, spin_us) = (text(1, "0"), text(2, "0"));
    let timeout = arguments.get(3).map(|text| text.parse().map(Duration::from_millis)).transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (mut raw_child, mut raw) = start(&listener, &["serve-raw", core])?;
    let (mut switch_child, stream) = start(&listener, &["serve-switch", core, spin_us])?;
    pin(0)?;
    let switch = Switch::new(0, vec![None, Some(stream)])?;
    switch.set_spin(Duration::from_micros(spin_us.parse()?));
    let ended = AtomicBool::new(false);
    let (mut raw_p50, mut switch_p50, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                switch.wait_service(None, &mut Nobody).expect("epoll_wait does not fail");
            }
        });
        let result = (|| -> Result<(), Box<dyn Error>> {
            for round in 0..rounds {
                let mut pair = [0.0; 2];
                for kind in [round % 2, 1 - round % 2] {
                    pair[kind] =
                        if kind == 0 { raw_round(&mut raw)? } else { switch_round(&switch, timeout)? };
                }
                raw_p50.push(pair[0]);
                switch_p50.push(pair[1]);
                ratios.push(pair[1] / pair[0]);
            }
            Ok(())
        })();
        ended.store(true, Ordering::SeqCst);
        switch.wake_service();
        result
    })?;
    println!(
        "raw p50 {:.2} us, leader p50 {:.2} us, ratio {:.3} (median of {rounds} rounds)",
        median(&mut raw_p50),
        median(&mut switch_p50),
        median(&mut ratios)
    );
    println!("{:?}\n{:?}", switch.counters_total(), switch.counters(1));
    drop((raw, switch));
    raw_child.wait()?;
    switch_child.wait()?;
    Ok(())
}

fn raw_round(stream: &mut TcpStream) -> io::Result<f64> {
    let request = [1; REQUEST_BYTES];
    let mut reply = [0; REPLY_BYTES];
    let mut times_us = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut times_us))
}

fn switch_round(switch: &Switch, timeout: Option<Duration>) -> Result<f64, Box<dyn Error>> {
    let mut faulter = Faulter { page: vec![0; PAGE_BYTES], arrived: false };
    let mut times_us = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        faulter.arrived = false;
        let mut leader = switch.try_lead().ok_or("the service thread is receiving")?;
        switch.enqueue(1, &[1; MESSAGE_BYTES], &[])?;
        while !faulter.arrived {
            leader.receive(timeout, &mut faulter)?;
        }
        drop(leader);
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut times_us))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
