//! A game shared by several processes ends with the same grid, cell for cell, as the same game in one process, and with
//! the populations that are published for famous patterns: one stale or lost page anywhere would change both.

mod life_support;

use std::fs;

use life_support::user_support::for_every_user_and_pager;
use life_support::{finished, last_generation, reference};
use pagemesh_demos::patterns::Named;
use pagemesh_demos::{Grid, rle};

#[track_caller]
fn assert_equal(shared: &Grid, reference: &Grid, game: &str) {
    // The grids are too large to print: `Debug` gives size and population.
    assert!(shared == reference, "{game}: shared {shared:?}, in one process {reference:?}");
}

#[test]
fn r_pentomino_settles_with_116_cells_on_1_to_4_nodes() {
    let expected = reference(&Named::RPentomino.grid(), 640, 640, 1103);
    assert_eq!(expected.population(), 116);
    for nodes in 1..=4 {
        let game = format!("-n {nodes} --pattern r-pentomino --grid 640x640 --generations 1103");
        let (shared, _) = last_generation(&game);
        assert_equal(&shared, &expected, &game);
    }
}

#[test]
fn the_defaults_are_r_pentomino_on_four_nodes() {
    let (shared, stdout) = last_generation("");
    assert_equal(&shared, &reference(&Named::RPentomino.grid(), 640, 640, 1103), "default");
    let first = stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("r-pentomino on 640x640 cells, 4 nodes: 1103 generations in "), "{stdout}");
    assert_eq!(stdout.lines().last(), Some("population 116"));
}

#[test]
fn acorn_settles_with_633_cells_on_four_nodes() {
    let game = "-n 4 --pattern acorn --grid 2560x2560 --generations 5206";
    let (shared, stdout) = last_generation(game);
    assert_eq!(stdout.lines().last(), Some("population 633"));
    assert_equal(&shared, &reference(&Named::Acorn.grid(), 2560, 2560, 5206), game);
}

#[test]
fn the_gun_emits_a_glider_every_30_generations_on_1_to_4_nodes() {
    // 203 rows of 40 bytes: no number of nodes but one divides the rows, and every border lies within a page.
    for nodes in 1..=4 {
        for generations in [0, 30, 60, 300] {
            let game = format!("-n {nodes} --pattern gosper-gun --grid 301x203 --generations {generations}");
            let (shared, _) = last_generation(&game);
            assert_eq!(shared.population(), 36 + 5 * generations / 30, "{game}");
            assert_equal(&shared, &reference(&Named::GosperGun.grid(), 301, 203, generations), &game);
        }
    }
}

#[test]
fn rows_of_several_nodes_in_one_page_do_not_disturb_each_other() {
    // All rows in two pages; then more nodes than pages, and rows that are not made of whole bytes.
    for (width, height, nodes) in [(64, 1000, 4), (100, 97, 3), (127, 31, 4), (65, 513, 2)] {
        let game = format!("-n {nodes} --pattern r-pentomino --grid {width}x{height} --generations 400");
        let (shared, _) = last_generation(&game);
        assert_equal(&shared, &reference(&Named::RPentomino.grid(), width, height, 400), &game);
    }
}

#[test]
fn every_user_plays_the_same_game_with_every_pager() {
    let expected = reference(&Named::RPentomino.grid(), 200, 150, 500).population();
    for_every_user_and_pager(|setting| {
        let finished = finished("-n 3 --grid 200x150 --generations 500");
        assert!(finished.status.success(), "{setting:?}: {finished:?}");
        let last = format!("population {expected}");
        assert_eq!(finished.stdout.lines().last(), Some(last.as_str()), "{setting:?}");
    });
}

#[test]
fn fewer_rows_than_nodes_are_enough() {
    for (width, height) in [(3, 3), (40, 3), (5, 4)] {
        for nodes in [4, 7] {
            let game = format!("-n {nodes} --pattern glider --grid {width}x{height} --generations 25");
            let (shared, _) = last_generation(&game);
            assert_equal(&shared, &reference(&Named::Glider.grid(), width, height, 25), &game);
        }
    }
}

#[test]
fn a_pattern_file_is_played_and_its_last_generation_can_be_played_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("blinker and block.rle");
    let text =
        "#N Blinker and block\n#C wrapped\r\nx = 7, y = 3, rule = b3/s23\r\n$3o\n2b\n2o$\n5b2o! and more";
    fs::write(&file, text).expect("the file is written");
    let pattern = rle::parse(text.as_bytes()).expect("the file is right");
    let output = directory.path().join("last.rle");
    let mut command = life_support::life("-n 2 --grid 9x6 --generations 3");
    command.arg("--pattern").arg(&file).arg("--output").arg(&output);
    let finished = life_support::Game::start(command).finish(life_support::GAME_DEADLINE);
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.stdout.lines().last(), Some("population 7"));
    let after_three = rle::parse(&fs::read(&output).expect("it was written")).expect("it is right");
    assert_equal(&after_three, &reference(&pattern, 9, 6, 3), "from a file");

    let game = format!("-n 3 --grid 9x6 --generations 2 --pattern {}", output.display());
    let (after_five, _) = last_generation(&game);
    assert_equal(&after_five, &reference(&pattern, 9, 6, 5), &game);
}

#[test]
fn a_pattern_may_come_through_a_pipe() {
    let mut command = life_support::life("-n 3 --grid 50x40 --generations 10 --pattern /dev/stdin");
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().expect("pagemesh starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    rle::write(&Named::GosperGun.grid(), &mut stdin).expect("the pattern is taken");
    drop(stdin);
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{output:?}");
    let expected = reference(&Named::GosperGun.grid(), 50, 40, 10).population();
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with(&format!("\npopulation {expected}\n")),
        "{output:?}"
    );
}
