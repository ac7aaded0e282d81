use super::*;

/// As Microsoft's own tool (ismif32) writes one.
const WHOLE: &str = r#"START COMPONENT
NAME = "WORKSTATION"
  START GROUP
    NAME = "ComponentID"
    ID = 1
    CLASS = "DMTF|ComponentID|1.0"
    START ATTRIBUTE
      NAME = "Manufacturer"
      ID = 1
      ACCESS = READ-ONLY
      STORAGE = SPECIFIC
      TYPE = STRING(64)
      VALUE = "Example"
    END ATTRIBUTE
    START ATTRIBUTE
      NAME = "Product"
      ID = 2
      TYPE = STRING(64)
      VALUE = "hello"
    END ATTRIBUTE
    START ATTRIBUTE
      NAME = "Version"
      ID = 3
      TYPE = STRING(64)
      VALUE = "2.10"
    END ATTRIBUTE
  END GROUP
  START GROUP
    NAME = "InstallStatus"
    ID = 2
    CLASS = "MICROSOFT|JOBSTATUS|1.0"
    START ATTRIBUTE
      NAME = "Status"
      ID = 1
      TYPE = STRING(32)
      VALUE = "Success"
    END ATTRIBUTE
    START ATTRIBUTE
      NAME = "Description"
      ID = 2
      TYPE = STRING(128)
      VALUE = "All is well"
    END ATTRIBUTE
  END GROUP
END COMPONENT
"#;

fn whole() -> StatusMif {
    StatusMif {
        succeeded: true,
        description: "All is well".to_owned(),
        product: "hello".to_owned(),
        version: "2.10".to_owned(),
    }
}

#[track_caller]
fn check(text: &str, expected: Result<StatusMif, &str>) {
    assert!(looks_like_one(text.as_bytes()), "{text:?}");
    match (parse(text.as_bytes()), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(why), Err(said)) => assert!(why.to_string().contains(said), "{why}"),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

/// The smallest file that says something.
fn status(more: &str) -> String {
    format!(
        "start component start group class = \"MICROSOFT|JOBSTATUS|1.0\" {more} end group \
         end component"
    )
}

fn attribute(name: &str, value: &str) -> String {
    format!("start attribute name = \"{name}\" value = {value} end attribute ")
}

#[test]
fn a_file_of_the_tools_of_its_time_is_read() {
    check(WHOLE, Ok(whole()));
    check(&WHOLE.replace('\n', "\r\n"), Ok(whole()));
    check(&WHOLE.replace("Success", "Failed"), Ok(StatusMif { succeeded: false, ..whole() }));
}

#[test]
fn keywords_classes_and_words_have_any_case() {
    check(&WHOLE.to_lowercase(), Ok(StatusMif { description: "all is well".into(), ..whole() }));
    let shouted = WHOLE.to_uppercase();
    let expected =
        StatusMif { description: "ALL IS WELL".into(), product: "HELLO".into(), ..whole() };
    check(&shouted, Ok(expected));
}

#[test]
fn comments_escapes_and_continued_literals_are_read() {
    let status = status(
        &(attribute("Status", "\"Suc\" // halves\n \"cess\"")
            + "// VALUE = \"Failed\"\n"
            + &attribute("Description", r#""a \"b\" \\ \x41\102 // none""#)),
    );
    let description = r#"a "b" \ AB // none"#.to_owned();
    check(&status, Ok(StatusMif { succeeded: true, description, ..Default::default() }));
}

#[test]
fn blocks_that_say_nothing_are_passed_over() {
    let more = "start enum name = \"x\" type = integer 0 = \"a\" 1 = \"b\" end enum \
                key = 1,2 pragma = \"SNMP:1\" start table class = \"a|b|1\" id = 1 {1,\"x\"} end table ";
    let text = status(&(more.to_owned() + &attribute("Status", "\"Failed\"")));
    check(&text, Ok(StatusMif::default()));
}

#[test]
fn unicode_and_latin_letters_are_read() {
    let with = |text: &str| WHOLE.replace("All is well", text);
    let expected = StatusMif { description: "Größe 5 – ok".into(), ..whole() };
    let text = with("Größe 5 – ok");
    let wide = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| {
        mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
    };
    for bytes in [
        wide(u16::to_le_bytes, [0xff, 0xfe]),
        wide(u16::to_be_bytes, [0xfe, 0xff]),
        [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat(),
        text.clone().into_bytes(),
    ] {
        assert!(looks_like_one(&bytes));
        assert_eq!(parse(&bytes).unwrap(), expected);
    }
    let latin: Vec<u8> =
        with("Größe").chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(parse(&latin).unwrap().description, "Größe");
}

#[test]
fn what_is_no_status_mif_says_what_is_missing() {
    check(&status(""), Err("no group MICROSOFT|JOBSTATUS|1.0 with an attribute Status"));
    check("start component end component", Err("no group"));
    check(&status(&attribute("Status", "\"Perhaps\"")), Err("\"Perhaps\", neither"));
    check(&WHOLE.replace("1.0\"\n    START", "9.9\"\n    START"), Err("no group"));
    check(&WHOLE.replace("END GROUP", ""), Err("END is of another block"));
    check(&WHOLE[..WHOLE.len() - 15], Err("never ended"));
    check(&WHOLE.replace("\"Success\"", "\"Success"), Err("line 36: a literal ends"));
    check(&"start a ".repeat(DEPTH_MAX + 1), Err("nest too deep"));
    check("start", Err("kind of a block"));
}

#[test]
fn json_is_no_mif() {
    for text in ["{}", " {\"start\": 1}", "", "null", "\u{feff}{}"] {
        assert!(!looks_like_one(text.as_bytes()), "{text:?}");
    }
}

/// Every prefix, every changed byte and every removed piece of a whole file, and noise: an answer and
/// never a panic.
#[test]
fn no_bytes_end_the_process() {
    let whole = WHOLE.as_bytes();
    let ask = |bytes: &[u8]| {
        let _ = (looks_like_one(bytes), parse(bytes));
    };
    for cut in 0..whole.len() {
        ask(&whole[..cut]);
        ask(&whole[cut..]);
        for byte in [0, b'"', b'\\', b'=', 0xff, 0xfe, b'\n', b'x', b'/'] {
            let mut bent = whole.to_vec();
            bent[cut] = byte;
            ask(&bent);
            for mark in MARKS {
                ask(&[mark, &bent[cut..]].concat());
            }
        }
    }
    let mut state = 1_u64;
    for _ in 0..2_000 {
        let noise: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        ask(&noise);
        ask(&[b"START COMPONENT ".as_slice(), &noise].concat());
        ask(&[b"START A VALUE = \"\\".as_slice(), &noise].concat());
    }
}
