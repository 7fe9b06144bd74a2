//! Engines under any order of events: a whole mesh of honest ones, and honest ones among which one lies.

mod lies;
mod mesh;
mod node;
mod objects;

use crate::script::Script;
use mesh::Mesh;

/// Events of one input; the rest of a longer input is not looked at.
const EVENTS_MAX: usize = 600;

/// Any calls, deliveries, losses and cancellations: no engine refuses another's message, nobody has a page beside its
/// writer, rights are what the engine says, each call ends at most once, and when all messages have arrived nobody waits
/// for what nobody keeps.
pub fn honest(data: &[u8]) {
    let mut script = Script::new(data);
    let mut mesh = Mesh::new(2 + script.below(3), None);
    for _ in 0..EVENTS_MAX {
        if script.is_over() {
            break;
        }
        mesh.event(&mut script);
        mesh.check();
    }
    mesh.wind_up();
}

/// As [`honest`], with a node that says whatever the input makes it say beside what its engine does. No engine panics, none
/// remembers more than its bounds, rights are what each engine says, and each call ends at most once.
pub fn liar(data: &[u8]) {
    let mut script = Script::new(data);
    let count = 2 + script.below(3);
    let who = script.below(count);
    let mut mesh = Mesh::new(count, Some(who));
    for _ in 0..EVENTS_MAX {
        if script.is_over() {
            break;
        }
        if script.below(3) == 0 {
            mesh.lie(&mut script);
        } else {
            mesh.event(&mut script);
        }
        mesh.check();
    }
    mesh.drain();
    mesh.check();
}
