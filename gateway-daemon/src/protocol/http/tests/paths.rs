use super::super::{PathError, parameters, readings};

fn sorted(path: &str) -> Vec<String> {
    let mut found = readings(path).unwrap();
    assert_eq!(found[0].to_ascii_lowercase(), path.to_ascii_lowercase(), "the one that came is the first");
    found.sort();
    found
}

#[test]
fn a_plain_path_has_one_reading() {
    for path in ["/", "/a/b.c/", "/a+b/~x,y=1:2@3!$&'()*", "/\u{e9}", "/a.b./c", "/..a"] {
        // A dot behind a slash is looked at closely, and found to be a name.
        assert_eq!(readings(path).unwrap(), [path], "{path}");
    }
}

#[test]
fn every_way_to_read_a_path_is_found() {
    assert_eq!(sorted("/@scope%2fname"), ["/@scope%2Fname", "/@scope/name"]);
    assert_eq!(sorted("/@scope%2Fname"), ["/@scope%2Fname", "/@scope/name"]);
    assert_eq!(sorted("/a/../b"), ["/a/../b", "/b"]);
    assert_eq!(sorted("/a/%2e%2E/b"), ["/a/%2E%2E/b", "/a/../b", "/b"]);
    assert_eq!(sorted("/a/..%2fb"), ["/a/..%2Fb", "/a/../b", "/b"]);
    assert_eq!(sorted("/a//b"), ["/a//b", "/a/b"]);
    assert_eq!(sorted("/a//../b"), ["/a/../b", "/a//../b", "/a/b", "/b"]);
    assert_eq!(sorted("/a/.;x/b"), ["/a/./b", "/a/.;x/b", "/a/b"]);
    assert_eq!(sorted("/a/..;/b"), ["/a/../b", "/a/..;/b", "/b"]);
    assert_eq!(sorted("/a\\b"), ["/a/b", "/a\\b"]);
    assert_eq!(sorted("/a/..\\b"), ["/a/../b", "/a/..\\b", "/b"]);
    assert_eq!(sorted("/a%252fb"), ["/a%252fb", "/a%2Fb", "/a/b"]);
    assert_eq!(sorted("/a%3fb"), ["/a", "/a%3Fb", "/a?b"]);
    assert_eq!(sorted("/%c3%a9"), ["/%C3%A9", "/\u{e9}"]);
    assert_eq!(sorted("/%ff"), ["/%FF"]);
    assert_eq!(sorted("/../../a"), ["/../../a", "/a"]);
    assert_eq!(sorted("/a/."), ["/a/", "/a/."]);
    assert_eq!(sorted("/a/b/.."), ["/a/", "/a/b/.."]);
    // Parameters are cut off before decoding by some, afterwards by others.
    assert_eq!(sorted("/%41;x%2fb"), ["/%41", "/%41;x%2Fb", "/A", "/A/b", "/A;x/b"]);
}

#[test]
fn what_cannot_be_judged_in_full_is_not_judged() {
    assert_eq!(readings("/a%00"), Err(PathError::Nul));
    assert_eq!(readings("/a%2500"), Err(PathError::Nul));
    assert_eq!(readings("/a%"), Err(PathError::Escape));
    assert_eq!(readings("/a%4"), Err(PathError::Escape));
    assert_eq!(readings("/a%zz"), Err(PathError::Escape));
    assert_eq!(readings("/%252525252e"), Err(PathError::Depth));
    assert_eq!(readings(&"/a".repeat(200)), Err(PathError::Segments));
    assert_eq!(readings(&"/a%20".repeat(200)), Err(PathError::Segments));
    assert_eq!(readings(&"/a;x//../b\\%2e%2e/%253b".repeat(4)), Err(PathError::Readings));
}

#[test]
fn a_parameter_has_every_value_that_some_server_reads() {
    let found = parameters("a=1&b=x+y&c&a=%32;d=3&%61=4&&e=%");
    let values = |name: &str| found[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(values("a"), ["1", "2", "2;d=3", "4"]);
    assert_eq!(values("b"), ["x y", "x+y"]);
    assert_eq!(values("c"), [""]);
    assert_eq!(values("d"), ["3"]);
    assert_eq!(values("e"), ["%"]);
    assert_eq!(found.len(), 5);
}
