//! Who touches a page first is its home, for everyone and for ever, also when several come at once. Asking does not settle it, and a
//! node that goes takes with it what only it knew, and no more.

mod cluster;

use cluster::{Node, PATIENCE, everywhere, play, run, start};
use pagemesh::{AccessError, Mesh, NodeId, Placement, Protocol, Region, RegionOptions, SharedSlice};

const PAGES: usize = 24;

fn first_touch(mesh: &Mesh, protocol: Protocol) -> (Region, SharedSlice<u64>) {
    let options = RegionOptions::new(PAGES * 4096).protocol(protocol).placement(Placement::FirstTouch);
    let region = mesh.region(&format!("{protocol:?}"), options).unwrap();
    let words = region.slice(0, PAGES * 512).unwrap();
    (region, words)
}

/// What a thread is likely to write next is not asked for where that would give it a home: it may be another node's part.
#[test]
fn who_writes_pages_in_order_gets_no_home_beyond_them() {
    const TEST: &str = "who_writes_pages_in_order_gets_no_home_beyond_them";
    play(TEST, |mesh| {
        for protocol in [Protocol::WriteInvalidate, Protocol::Release] {
            let (region, words) = first_touch(&mesh, protocol);
            if mesh.node() == NodeId::new(1) {
                (0..PAGES / 2).for_each(|page| words.set(page * 512, 1).unwrap());
            }
            mesh.barrier(1).wait().unwrap();
            for page in 0..PAGES {
                let home = (page < PAGES / 2).then_some(NodeId::new(1));
                assert_eq!(region.page_home(page).unwrap(), home, "page {page}, {protocol:?}");
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn nodes_that_race_for_every_page_agree_on_its_home() {
    const TEST: &str = "nodes_that_race_for_every_page_agree_on_its_home";
    play(TEST, |mesh| {
        for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
            let (region, words) = first_touch(&mesh, protocol);
            let me = mesh.node().index();
            assert!(
                (0..PAGES).all(|page| region.page_home(page).unwrap().is_none()),
                "asking is not touching"
            );
            mesh.barrier(1).wait().unwrap();
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let words = words.clone();
                    scope.spawn(move || {
                        for page in 0..PAGES {
                            words.fetch_add(page * 512 + thread, 1).unwrap();
                            words.set(page * 512 + 8 + 2 * me + thread, 1).unwrap();
                        }
                    });
                }
            });
            mesh.barrier(1).wait().unwrap();
            let homes: Vec<u16> = (0..PAGES)
                .map(|page| region.page_home(page).unwrap().expect("it was touched").get())
                .collect();
            say!("{homes:?}");
            for page in 0..PAGES {
                assert_eq!(words.get(page * 512).unwrap(), mesh.nodes() as u64);
                let marks = (0..2 * mesh.nodes()).map(|mark| words.get(page * 512 + 8 + mark).unwrap());
                assert_eq!(marks.sum::<u64>(), 2 * mesh.nodes() as u64);
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 4);
        assert_eq!(said[0].len(), 2);
        assert!(said.iter().all(|lines| *lines == said[0]), "one home on every node: {said:?}");
    });
}

#[test]
fn who_comes_first_is_the_home_and_needs_nobodys_bytes() {
    const TEST: &str = "who_comes_first_is_the_home_and_needs_nobodys_bytes";
    play(TEST, |mesh| {
        let (region, words) = first_touch(&mesh, Protocol::WriteInvalidate);
        let (me, nodes) = (mesh.node().index(), mesh.nodes());
        let toucher = |page: usize| page / 3 % nodes;
        for page in (0..PAGES).filter(|page| toucher(*page) == me) {
            words.set(page * 512, 1 + me as u64).unwrap();
        }
        assert_eq!(mesh.stats().pages_fetched, 0);
        mesh.barrier(1).wait().unwrap();
        for page in 0..PAGES {
            assert_eq!(region.page_home(page).unwrap(), Some(NodeId::new(toucher(page) as u16)));
            assert_eq!(words.get(page * 512).unwrap(), 1 + toucher(page) as u64);
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

/// Node 2 is killed. It was the home of the pages that it touched first, and the anchor of every third.
#[test]
fn a_lost_anchor_is_named_to_those_who_do_not_know_the_home() {
    const TEST: &str = "a_lost_anchor_is_named_to_those_who_do_not_know_the_home";
    const VICTIM: NodeId = NodeId::new(2);
    play(TEST, |mesh| {
        let (region, words) = first_touch(&mesh, Protocol::WriteInvalidate);
        // Node 0 touches pages 0 to 8, the victim 9 to 14; nobody touches the others.
        let touched = match mesh.node().get() {
            0 => 0..9,
            2 => 9..15,
            _ => 0..0,
        };
        for page in touched {
            words.set(page * 512, 7).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        if mesh.node() == VICTIM {
            loop {
                std::thread::park();
            }
        }
        assert_eq!(mesh.wait_departure(PATIENCE).unwrap().node, VICTIM);
        for page in 0..PAGES {
            let (home_known, anchored) = (mesh.node().get() == 0 && page < 9, page % 3 == 2);
            let got = words.get(page * 512);
            match got {
                Ok(value) => {
                    assert!(home_known || !anchored, "page {page} was read without its anchor");
                    assert_eq!(value, if page < 9 { 7 } else { 0 });
                }
                Err(AccessError::PeerLost { node: VICTIM, page: named, .. }) => {
                    assert_eq!(named, page as u64);
                    assert!(anchored && !home_known || (9..15).contains(&page), "page {page}");
                    assert!(region.page_home(page).is_err() || !anchored);
                }
                Err(other) => panic!("page {page}: {other}"),
            }
        }
        say!("done");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, 3);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes[VICTIM.index()].kill();
        nodes.truncate(2);
        let said: Vec<Vec<String>> = nodes.into_iter().map(Node::rest).collect();
        assert!(said.iter().all(|lines| lines[..] == ["done"]), "{said:?}");
    });
}
