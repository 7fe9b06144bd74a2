//! Nodes on one host send each other their messages through memory that they share, where they may share it, and over TCP where
//! they may not, in any mixture. What a program sees is the same; and what one node does to that memory, or its death in the middle of it,
//! costs the others that node and nothing else.

mod cluster;

use cluster::{AS_IT_COMES, Node, Setting, free_address, play, start, start_with, with_setting};
use pagemesh::{LinkKind, Mesh, NoRing, NodeId, Placement, RegionOptions};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// What the links of this node are, by peer: `-` for itself.
fn links(mesh: &Mesh) -> String {
    let name = |node| match mesh.link(NodeId::new(node)) {
        None => "-".to_owned(),
        Some(LinkKind::Ring) => "ring".to_owned(),
        Some(LinkKind::Tcp(reason)) => format!("{reason:?}"),
    };
    (0..mesh.nodes() as u16).map(name).collect::<Vec<_>>().join(" ")
}

/// Every node writes its word of every page and reads all words of all, twice: pages and demands in every direction.
fn pass_pages_around(mesh: &Mesh) {
    const PAGES: usize = 300;
    let region = mesh.region("around", RegionOptions::new(PAGES * 4096)).unwrap();
    let words = region.slice::<u64>(0, PAGES * 512).unwrap();
    let (me, nodes) = (mesh.node().index(), mesh.nodes());
    for round in 0..2 {
        for page in 0..PAGES {
            words.set(page * 512 + me, (round * 1_000_000 + page * 100 + me) as u64).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        for page in 0..PAGES {
            for node in 0..nodes {
                let expected = (round * 1_000_000 + page * 100 + node) as u64;
                assert_eq!(words.get(page * 512 + node).unwrap(), expected);
            }
        }
        mesh.barrier(1).wait().unwrap();
    }
}

fn said(nodes: Vec<Node>) -> Vec<String> {
    nodes.into_iter().map(|node| node.rest().concat()).collect()
}

#[test]
fn a_ring_is_taken_where_it_can_be_had() {
    const TEST: &str = "a_ring_is_taken_where_it_can_be_had";
    play(TEST, |mesh| {
        pass_pages_around(&mesh);
        say!("{}", links(&mesh));
        mesh.leave().unwrap();
    });
    assert_eq!(
        said(start_with(TEST, 3, &[("PAGEMESH_TRANSPORT", "ring")])),
        ["- ring ring", "ring - ring", "ring ring -"]
    );
    // One that will not, in each place: who asks, who is asked, and both.
    for unwilling in 0..3 {
        let coordinator = free_address();
        let nodes = (0..3).map(|node| {
            let transport = if node == unwilling { "tcp" } else { "auto" };
            Node::start_with(TEST, node, 3, coordinator, &[("PAGEMESH_TRANSPORT", transport)])
        });
        let said = said(nodes.collect());
        for (node, line) in said.iter().enumerate() {
            for (peer, link) in line.split(' ').enumerate() {
                let expected = match (node == peer, node == unwilling || peer == unwilling) {
                    (true, _) => "-",
                    (_, true) => "NotWanted",
                    _ => "ring",
                };
                assert_eq!(link, expected, "node {node} to {peer}, {unwilling} unwilling: {said:?}");
            }
        }
    }
}

#[test]
fn users_do_not_share_memory_with_each_other() {
    const TEST: &str = "users_do_not_share_memory_with_each_other";
    play(TEST, |mesh| {
        pass_pages_around(&mesh);
        say!("{}", links(&mesh));
        mesh.leave().unwrap();
    });
    // SAFETY: asks a number, and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not run: to be another user takes root");
        return;
    }
    let other = format!("{:?}", NoRing::OtherUser);
    for stranger in 0..3 {
        let coordinator = free_address();
        let nodes = (0..3).map(|node| {
            let setting = Setting { as_nobody: node == stranger, ..AS_IT_COMES };
            with_setting(setting, || Node::start(TEST, node, 3, coordinator))
        });
        let said = said(nodes.collect());
        for (node, line) in said.iter().enumerate() {
            let strange = line.split(' ').filter(|link| *link == other).count();
            let rings = line.split(' ').filter(|link| *link == "ring").count();
            let expected = if node == stranger { (2, 0) } else { (1, 1) };
            assert_eq!((strange, rings), expected, "node {node}, {stranger} strange: {said:?}");
        }
    }
}

#[test]
fn a_mesh_that_insists_on_rings_is_not_formed_without() {
    const TEST: &str = "a_mesh_that_insists_on_rings_is_not_formed_without";
    if std::env::var("PAGEMESH_TEST_ROLE").as_deref() == Ok(TEST) {
        let failed = Mesh::join(pagemesh::Config::from_env().unwrap()).map(Mesh::leave);
        say!("{}", failed.map_or_else(|error| error.to_string(), |_| "joined".to_owned()));
        return;
    }
    let coordinator = free_address();
    let start =
        |node, transport| Node::start_with(TEST, node, 2, coordinator, &[("PAGEMESH_TRANSPORT", transport)]);
    let insisting = start(0, "ring");
    let unwilling = start(1, "tcp");
    let text = insisting.hear();
    assert!(text.contains("no shared memory with node 1") && text.contains("uses TCP only"), "{text}");
    drop(unwilling);
}

/// Plays on with whoever is left, and says what became of node 1.
fn outlive_node_1(mesh: &Mesh) {
    let options = RegionOptions::new(64 * 4096).placement(Placement::Single(NodeId::new(0)));
    let region = mesh.region("left", options).unwrap();
    let words = region.slice::<u64>(0, 64 * 512).unwrap();
    // Node 1 has the region too then, and may be gone already.
    let _ = mesh.barrier(1).wait();
    say!("ready");
    // The other one may have come to its end before.
    while mesh.wait_departure(cluster::PATIENCE).expect("node 1 is gone").node != NodeId::new(1) {}
    // Nodes 0 and 2 go on, one after the other.
    for round in 0..100 {
        let lock = mesh.lock(0);
        let Ok(_guard) = lock.acquire() else { continue };
        let at = round % 64 * 512;
        if let Ok(value) = words.get(at) {
            let _ = words.set(at, value + 1);
        }
    }
    say!("outlived");
}

#[test]
fn killed_while_it_writes_into_the_ring() {
    const TEST: &str = "killed_while_it_writes_into_the_ring";
    play(TEST, |mesh| {
        if mesh.node().index() != 1 {
            outlive_node_1(&mesh);
            return;
        }
        let options = RegionOptions::new(64 * 4096).placement(Placement::Single(NodeId::new(0)));
        let region = mesh.region("left", options).unwrap();
        let words = region.slice::<u64>(0, 64 * 512).unwrap();
        mesh.barrier(1).wait().unwrap();
        say!("writing");
        for round in 0.. {
            for page in 0..64 {
                words.set(page * 512 + 1, round).unwrap();
            }
            region.evict(0..64);
        }
    });
    let mut nodes = start(TEST, 3);
    assert_eq!(nodes[0].hear(), "ready");
    assert_eq!(nodes[2].hear(), "ready");
    assert_eq!(nodes[1].hear(), "writing");
    nodes[1].kill();
    for node in [0, 2] {
        assert_eq!(nodes[node].hear(), "outlived");
    }
}

#[test]
fn a_node_that_spoils_its_rings_loses_itself_only() {
    const TEST: &str = "a_node_that_spoils_its_rings_loses_itself_only";
    play(TEST, |mesh| {
        if mesh.node().index() != 1 {
            outlive_node_1(&mesh);
            return;
        }
        mesh.region("left", RegionOptions::new(64 * 4096).placement(Placement::Single(NodeId::new(0))))
            .unwrap();
        // Not before the others have the region.
        mesh.barrier(1).wait().unwrap();
        assert_eq!(spoil_rings(), 2);
        say!("spoilt");
        // Whoever writes next puts its own position right again, so once may be too seldom where nobody looks in between.
        std::thread::spawn(|| {
            while spoil_rings() > 0 {
                std::thread::yield_now();
            }
        });
        // Whoever looks at its ring sees it; each is called by the next message, if not before.
        let deadline = std::time::Instant::now() + cluster::PATIENCE;
        let mut gone = 0;
        while gone < 2 && std::time::Instant::now() < deadline {
            for id in 0..6 {
                let _ = mesh.lock(id).acquire();
            }
            gone += usize::from(mesh.wait_departure(std::time::Duration::ZERO).is_some());
        }
    });
    let nodes = start(TEST, 3);
    assert_eq!(nodes[1].hear(), "spoilt");
    for node in [0, 2] {
        assert_eq!(nodes[node].hear(), "ready");
        assert_eq!(nodes[node].hear(), "outlived");
    }
}

/// Fills the first page of every ring of this process with ones, past all interfaces. Returns how many there are.
fn spoil_rings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
    let rings = maps.lines().filter(|line| line.contains("memfd:pagemesh")).filter_map(|line| {
        let (low, high) = line.split(' ').next()?.split_once('-')?;
        let parse = |text| u64::from_str_radix(text, 16).ok();
        let (low, high) = (parse(low)?, parse(high)?);
        // A page of positions and two powers of two; no region of this test has that size.
        let bytes = (high - low).checked_sub(4096)? / 2;
        (bytes >= 64 * 1024 && bytes.is_power_of_two()).then_some(low)
    });
    // One whose other end is lost goes, also between the two looks.
    rings.filter(|ring| memory.write_all_at(&[0xff; 4096], *ring).is_ok()).count()
}
