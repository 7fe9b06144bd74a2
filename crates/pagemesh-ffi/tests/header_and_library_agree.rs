//! A header that declares what the library lacks fails at the user's link; a structure laid out otherwise fails in silence. So the
//! two are compared: every declared function with every exported one, and every number, size and offset by compiled C.

mod common;

use common::{Linkage, built, command, compile, folder, here};
use dsm::error::Code;
use dsm::types::{self, dsm_config_t, dsm_region_options_t, dsm_stats_ext_t, dsm_stats_t};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;
use std::process::Command;

/// What stands in the place of the C library's functions, and so is in its headers.
const STAND_INS: [&str; 4] = ["sigaction", "signal", "bsd_signal", "__sysv_signal"];

fn header(name: &str) -> String {
    fs::read_to_string(here().join("include/dsm").join(name)).expect("the header is there")
}

/// The header's text without comments and preprocessor lines.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").expect("a comment has an end").1;
    }
    code.push_str(rest);
    code.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Names of the functions that the header declares.
fn declared() -> BTreeSet<String> {
    let text = code(&header("dsm.h"));
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let name = |(at, _): (usize, &str)| {
        let before = &text[..at];
        let start = before.rfind(|letter| !is_name(letter)).map_or(0, |index| index + 1);
        before[start..].to_owned()
    };
    text.match_indices('(').map(name).filter(|name| name.starts_with("dsm_")).collect()
}

/// Names of the functions that the shared library exports.
fn exported() -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(built().join("libdsm.so")).output();
    let output = output.expect("nm comes with the compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

#[test]
fn every_function_that_is_declared_is_exported_and_the_other_way_round() {
    let declared = declared();
    assert!(declared.len() > 35, "{declared:?}");
    let mut expected = declared.clone();
    expected.extend(STAND_INS.map(str::to_owned));
    assert_eq!(exported(), expected);
}

#[test]
fn a_program_can_name_every_function() {
    let mut text =
        String::from("#include <dsm/dsm.h>\ntypedef void (*function)(void);\nfunction all[] = {\n");
    for name in declared() {
        let _ = writeln!(text, "    (function){name},");
    }
    text.push_str("};\nint main(void) { return all[0] == 0; }\n");
    for linkage in [Linkage::Shared, Linkage::Static] {
        let source = folder().join("names.c");
        fs::write(&source, &text).expect("there is room");
        let status = command(&compile(&source, linkage, &[])).status().expect("it runs");
        assert!(status.success());
    }
}

/// Assertions in C about one structure.
fn layout(name: &str, size: usize, align: usize, fields: &[(&str, usize)]) -> String {
    let mut text = format!(
        "static_assert(sizeof({name}) == {size} && alignof({name}) == {align}, \"size of {name}\");\n"
    );
    for (field, offset) in fields {
        let _ = writeln!(text, "static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");");
    }
    text
}

/// The fields of a structure in the header.
fn fields_in_header(name: &str) -> Vec<String> {
    let text = code(&header("types.h"));
    let before = text.split(&format!("}} {name};")).next().expect("the structure is there");
    let body = before.rsplit('{').next().expect("it has a body");
    let field = |line: &str| {
        let declaration = line.split('[').next().unwrap_or(line);
        declaration.rsplit([' ', '*']).next().map(str::to_owned)
    };
    body.split(';').map(str::trim).filter(|line| !line.is_empty()).filter_map(field).collect()
}

macro_rules! structure {
    ($name:ident: $($field:ident),* $(,)?) => {{
        let fields = [$((stringify!($field), offset_of!($name, $field))),*];
        let name = stringify!($name);
        assert_eq!(fields_in_header(name), fields.map(|(field, _)| field), "the fields of {name}, in order");
        layout(name, size_of::<$name>(), align_of::<$name>(), &fields)
    }};
}

fn structures() -> String {
    structure!(dsm_config_t: node_id, port, manager_host, manager_port, num_nodes, is_manager, log_level)
        + &structure!(
            dsm_stats_t: page_faults, read_faults, write_faults, pages_fetched, pages_sent, invalidations_sent,
            invalidations_received, network_bytes_sent, network_bytes_received, lock_acquires, barrier_waits,
            total_fault_latency_ns, max_fault_latency_ns, min_fault_latency_ns, queued_requests, false_sharing_events,
            network_retries, network_failures, timeouts
        )
        + &structure!(
            dsm_stats_ext_t: struct_size, reserved, messages_sent, messages_received, diffs_sent, diff_bytes,
            faults_resolved_locally, prefetched_pages
        )
        + &structure!(dsm_region_options_t: struct_size, protocol, placement, placement_node, address, flags)
}

fn numbers() -> String {
    let small = |number: usize| i64::try_from(number).expect("a small number");
    let mut all: Vec<(&str, i64)> = vec![
        ("DSM_SUCCESS", 0),
        ("PAGE_SIZE", small(types::PAGE_SIZE)),
        ("MAX_NODES", small(types::MAX_NODES)),
        ("MAX_HOSTNAME_LEN", small(types::MAX_HOSTNAME_LEN)),
        ("PAGE_STATE_INVALID", types::page_state::INVALID.into()),
        ("PAGE_STATE_READ_ONLY", types::page_state::READ_ONLY.into()),
        ("PAGE_STATE_READ_WRITE", types::page_state::READ_WRITE.into()),
        ("ACCESS_READ", types::access::READ.into()),
        ("ACCESS_WRITE", types::access::WRITE.into()),
        ("DSM_PROTOCOL_WRITE_INVALIDATE", types::protocol::WRITE_INVALIDATE.into()),
        ("DSM_PROTOCOL_MIGRATION", types::protocol::MIGRATION.into()),
        ("DSM_PROTOCOL_RELEASE", types::protocol::RELEASE.into()),
        ("DSM_PROTOCOL_ENTRY", types::protocol::ENTRY.into()),
        ("DSM_PLACE_CYCLIC", types::placement::CYCLIC.into()),
        ("DSM_PLACE_BLOCK", types::placement::BLOCK.into()),
        ("DSM_PLACE_SINGLE", types::placement::SINGLE.into()),
        ("DSM_PLACE_FIRST_TOUCH", types::placement::FIRST_TOUCH.into()),
        ("LOG_LEVEL_NONE", 0),
        ("LOG_LEVEL_ERROR", 1),
        ("LOG_LEVEL_WARN", 2),
        ("LOG_LEVEL_INFO", 3),
        ("LOG_LEVEL_DEBUG", 4),
        ("sizeof(node_id_t)", small(size_of_val(&types::NO_NODE))),
        ("sizeof(page_id_t)", 8),
        ("sizeof(lock_id_t)", 8),
        ("sizeof(barrier_id_t)", 8),
        // Enumerations are passed as ints.
        ("sizeof(page_state_t)", 4),
        ("sizeof(access_type_t)", 4),
    ];
    all.extend(Code::ALL.iter().map(|(code, name)| (*name, *code as i64)));
    let assertion =
        |(name, number): &(&str, i64)| format!("static_assert((int)({name}) == {number}, \"{name}\");\n");
    all.iter().map(assertion).collect()
}

#[test]
fn every_number_size_and_offset_is_the_same() {
    let head = "#include <assert.h>\n#include <dsm/dsm.h>\n#include <stdalign.h>\n#include <stddef.h>\n";
    let text = format!("{head}{}{}int main(void) {{ return 0; }}\n", structures(), numbers());
    for name in ["layout.c", "layout.cpp"] {
        let source = folder().join(name);
        fs::write(&source, &text).expect("there is room");
        compile(&source, Linkage::Shared, &[]);
    }
}

#[test]
fn the_header_tells_the_version_of_the_library() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(header("dsm.h").contains(&format!("#define DSM_VERSION \"{version}\"")), "{version}");
}

/// Each header alone, first, and twice, in every standard that is promised.
#[test]
fn the_headers_stand_alone_in_every_standard() {
    for name in ["dsm.h", "types.h"] {
        let text = format!("#include <dsm/{name}>\n#include <dsm/{name}>\nint main(void) {{ return 0; }}\n");
        for (file, standards) in [
            ("alone.c", &["-std=c11", "-std=c17", "-std=gnu11"][..]),
            ("alone.cpp", &["-std=c++11", "-std=c++17", "-std=c++20"]),
        ] {
            let source = folder().join(file);
            fs::write(&source, &text).expect("there is room");
            for standard in standards {
                compile(&source, Linkage::Shared, &[standard]);
            }
        }
    }
}
