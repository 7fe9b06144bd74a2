//! The lines that two processes exchange to find out which is the first.
//!
//! | line | who sends it | meaning |
//! |---|---|---|
//! | `s2dsm-pair 1 listen=5000 remote=6000 stage=2 waiting=no nonce=<32 hex digits>` | the dialer, at once | here I am |
//! | `first` | the acceptor | I am the first process and accept no more pairing connections |
//! | `second` | the dialer | then I am the second |
//! | `no <reason>` | the acceptor | we do not fit together |
//!
//! All are ASCII and end with a newline.

use super::Stage;
use std::fmt;

/// The longest line of the exchange in bytes, newline included.
pub(crate) const MAX_LINE_BYTES: usize = 256;

/// The acceptor is the first process.
pub(crate) const FIRST: &str = "first";
/// The dialer agrees to be the second.
pub(crate) const SECOND: &str = "second";
/// Starts a refusal.
pub(crate) const NO: &str = "no ";

const MAGIC: &str = "s2dsm-pair";
const VERSION: &str = "1";

/// What a dialer says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    /// The port the sender listens on.
    pub(crate) listen_port: u16,
    /// The port the sender dials.
    pub(crate) remote_port: u16,
    /// What the sender was started for.
    pub(crate) stage: Stage,
    /// Whether the sender found nobody when it dialed first.
    pub(crate) waiting: bool,
    /// Random; decides between two that are otherwise alike.
    pub(crate) nonce: u128,
}

/// Why a line is no hello for this process.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    /// It is no pairing line at all: the sender gets no answer.
    Stranger,
    /// The sender speaks pairing, but not to us; it is told why.
    Refused(String),
}

impl Hello {
    /// Whether the sender of `self` comes before the sender of `other` when each has dialed the other: who waits comes
    /// before who does not, then the lower nonce. Both sides compare the same two hellos, so they agree.
    pub(crate) fn precedes(&self, other: &Hello) -> bool {
        (!self.waiting, self.nonce) < (!other.waiting, other.nonce)
    }

    /// The hello in `line` (without its newline), if its sender is the peer of the process that says `own`.
    pub(crate) fn from_peer(line: &[u8], own: &Hello) -> Result<Hello, Misfit> {
        let text = std::str::from_utf8(line).map_err(|_| Misfit::Stranger)?;
        let mut words = text.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(Misfit::Stranger);
        }
        if words.next() != Some(VERSION) {
            return Err(Misfit::Refused(format!(
                "this s2dsm pairs by version {VERSION} of the exchange only"
            )));
        }
        let hello = Hello::from_fields(words).ok_or(Misfit::Stranger)?;
        if (hello.listen_port, hello.remote_port) != (own.remote_port, own.listen_port) {
            return Err(Misfit::Refused(format!(
                "the s2dsm on port {} pairs with port {}, not with port {}",
                own.listen_port, own.remote_port, hello.listen_port
            )));
        }
        if hello.stage != own.stage {
            return Err(Misfit::Refused(format!(
                "the peer was started with --stage {}, this one with --stage {}",
                own.stage, hello.stage
            )));
        }
        Ok(hello)
    }

    fn from_fields<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Hello> {
        let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let hello = Hello {
            listen_port: field("listen")?.parse().ok()?,
            remote_port: field("remote")?.parse().ok()?,
            stage: Stage::from_name(field("stage")?)?,
            waiting: match field("waiting")? {
                "yes" => true,
                "no" => false,
                _ => return None,
            },
            nonce: u128::from_str_radix(field("nonce")?, 16).ok()?,
        };
        words.next().is_none().then_some(hello)
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hello { listen_port, remote_port, stage, waiting, nonce } = self;
        let waiting = if *waiting { "yes" } else { "no" };
        write!(
            f,
            "{MAGIC} {VERSION} listen={listen_port} remote={remote_port} stage={stage} waiting={waiting} nonce={nonce:032x}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(listen_port: u16, remote_port: u16, nonce: u128) -> Hello {
        Hello { listen_port, remote_port, stage: Stage::Shared, waiting: false, nonce }
    }

    #[test]
    fn a_hello_survives_the_line() {
        let own = hello(5000, 6000, 1);
        let mut sent = hello(6000, 5000, u128::MAX);
        for waiting in [false, true] {
            sent.waiting = waiting;
            let line = sent.to_string();
            assert!(line.len() < MAX_LINE_BYTES);
            assert_eq!(Hello::from_peer(line.as_bytes(), &own), Ok(sent.clone()));
        }
    }

    #[test]
    fn every_shortened_or_lengthened_line_is_a_stranger_or_refused() {
        let own = hello(5000, 6000, 1);
        let line = hello(6000, 5000, 7).to_string();
        // A shorter nonce is still a number: the newline is what ends a hello.
        let nonce_at = line.rfind('=').unwrap() + 1;
        for end in 0..=nonce_at {
            assert!(Hello::from_peer(&line.as_bytes()[..end], &own).is_err(), "{}", &line[..end]);
        }
        for line in [
            format!("{line} more"),
            format!(" {line}"),
            line.replace("no", "maybe"),
            line.replace("=2", "=3"),
        ] {
            assert_eq!(Hello::from_peer(line.as_bytes(), &own), Err(Misfit::Stranger), "{line}");
        }
        assert_eq!(Hello::from_peer(b"PAGEMESH\x01\x00", &own), Err(Misfit::Stranger));
        assert_eq!(Hello::from_peer(b"\xff\xfe", &own), Err(Misfit::Stranger));
    }

    #[test]
    fn a_hello_that_does_not_fit_is_refused_with_the_reason() {
        let own = hello(5000, 6000, 1);
        let refusal = |sent: String| match Hello::from_peer(sent.as_bytes(), &own) {
            Err(Misfit::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refusal(hello(7000, 5000, 2).to_string()),
            "the s2dsm on port 5000 pairs with port 6000, not with port 7000"
        );
        let other_stage = Hello { stage: Stage::Local, ..hello(6000, 5000, 2) };
        assert_eq!(
            refusal(other_stage.to_string()),
            "the peer was started with --stage 2, this one with --stage 1c"
        );
        assert!(refusal(hello(6000, 5000, 2).to_string().replace("pair 1", "pair 2")).contains("version 1"));
    }

    #[test]
    fn exactly_one_of_two_precedes() {
        let mut a = hello(1, 2, 10);
        let mut b = hello(2, 1, 11);
        for (a_waiting, b_waiting, a_first) in
            [(false, false, true), (true, false, true), (false, true, false), (true, true, true)]
        {
            (a.waiting, b.waiting) = (a_waiting, b_waiting);
            assert_eq!(a.precedes(&b), a_first);
            assert_eq!(b.precedes(&a), !a_first);
        }
    }
}
