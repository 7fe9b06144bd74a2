//! Hundreds of random commands at both processes print what two MSI arrays and one text a page say.
//!
//! The script of the seed is short; this one reaches every pair of states from every other, single pages and all at once.
//! The commands follow one another, as the users' agreement on this program is.

mod s2dsm_support;

use s2dsm_support::player::{Connection, FAULT, page, pair_with_pages, states};
use std::time::{SystemTime, UNIX_EPOCH};

const PAGES: usize = 5;
const COMMANDS: usize = 400;

/// The truth, in its simplest form.
struct Model {
    states: [[char; PAGES]; 2],
    texts: Vec<String>,
}

impl Model {
    fn read(&mut self, node: usize, target: usize) -> String {
        let fault = self.states[node][target] == 'I';
        if fault {
            self.states[node][target] = 'S';
            let peer = &mut self.states[1 - node][target];
            *peer = if *peer == 'M' { 'S' } else { *peer };
        }
        self.lines(fault, target)
    }

    fn write(&mut self, node: usize, target: usize, text: &str) -> String {
        let fault = self.states[node][target] != 'M';
        self.states[node][target] = 'M';
        self.states[1 - node][target] = 'I';
        text.clone_into(&mut self.texts[target]);
        self.lines(fault, target)
    }

    fn lines(&self, fault: bool, target: usize) -> String {
        [if fault { FAULT } else { "" }, &page(target, &self.texts[target])].concat()
    }

    fn view(&self, node: usize) -> String {
        states(&self.states[node].iter().collect::<String>())
    }
}

/// The linear congruential generator of Knuth's MMIX: enough to choose commands.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

fn run(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let (first, second) = pair_with_pages(Connection::Pipes, PAGES);
    let mut players = [first, second];
    let mut model = Model { states: [['I'; PAGES]; 2], texts: vec![String::new(); PAGES] };
    for step in 0..COMMANDS {
        let node = random.below(2);
        let (kind, target) = (random.below(10), random.below(PAGES + 1));
        let name = if target == PAGES { "-1".to_owned() } else { target.to_string() };
        let targets = if target == PAGES { 0..PAGES } else { target..target + 1 };
        let (said, expected) = match kind {
            0..4 => {
                let said = players[node].read(&name, PAGES);
                (said, targets.map(|target| model.read(node, target)).collect::<String>())
            }
            4..8 => {
                let text = format!("step {step} {}", "x".repeat(random.below(300)));
                let said = players[node].write(&name, &text, PAGES);
                (said, targets.map(|target| model.write(node, target, &text)).collect())
            }
            _ => (players[node].view(), model.view(node)),
        };
        assert_eq!(said, expected, "seed {seed}, step {step}, node {node}");
    }
    for (node, player) in players.iter_mut().enumerate() {
        assert_eq!(player.view(), model.view(node), "seed {seed}, at the end, node {node}");
    }
}

#[test]
fn a_fixed_seed() {
    run(20_220_325);
}

#[test]
fn a_seed_of_this_moment() {
    run(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
}
