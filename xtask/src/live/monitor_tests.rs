use super::*;
use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

const OK: &str = r#"{"return":{}}"#;
const REFUSED: &str = r#"{"error":{"class":"GenericError","desc":"no free slots available"}}"#;

/// A monitor that greets each of `connections`, answers each command by the next of its lines (several where one holds
/// line ends), and closes. Returns the commands that it got.
fn monitor(name: &str, connections: Vec<Vec<&'static str>>) -> (Monitor, JoinHandle<Vec<Value>>) {
    let socket = std::env::temp_dir().join(format!("vmemmap-qmp-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let mut commands = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap());
            stream.write_all(b"{\"QMP\":{}}\n").unwrap();
            let mut commands_of_it = serde_json::Deserializer::from_reader(lines).into_iter::<Value>();
            assert_eq!(commands_of_it.next().unwrap().unwrap()["execute"], "qmp_capabilities");
            stream.write_all(format!("{OK}\n").as_bytes()).unwrap();
            for answer in answers {
                let Some(Ok(command)) = commands_of_it.next() else { break };
                commands.push(command);
                stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        }
        commands
    });
    (Monitor::new(socket), served)
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Command(why) => why,
        Failure::Session(stop) => panic!("{stop:?}"),
    }
}

#[test]
fn a_request_is_read_and_set() {
    let (mut monitor, served) = monitor("request", vec![vec![r#"{"return":2097152}"#, OK]]);
    assert_eq!(monitor.requested("virtio-mem").unwrap(), 2 << 20);
    monitor.request("virtio-mem", 4 << 20).unwrap();
    // Its socket closes: the other side waits no longer.
    drop(monitor);
    let commands = served.join().unwrap();
    assert_eq!(
        commands[0]["arguments"],
        json!({ "path": "/machine/peripheral/virtio-mem", "property": "requested-size" })
    );
    assert_eq!((&commands[1]["execute"], &commands[1]["arguments"]["value"]), (&json!("qom-set"), &json!(4 << 20)));
}

#[test]
fn a_dimm_that_qemu_refuses_leaves_no_memory_behind() {
    let (mut monitor, served) = monitor("refused", vec![vec![OK, REFUSED, OK]]);
    let failed = why(monitor.add_dimm("dimm3", 2 << 20, Some(1 << 32)).unwrap_err());
    assert_eq!(failed, "QEMU refuses: no free slots available: unplug a DIMM first");
    // Its socket closes: the other side waits no longer.
    drop(monitor);
    let commands = served.join().unwrap();
    let executed: Vec<_> = commands.iter().map(|command| command["execute"].as_str().unwrap()).collect();
    assert_eq!(executed, ["object-add", "device_add", "object-del"]);
    assert_eq!(
        (&commands[1]["arguments"]["addr"], &commands[2]["arguments"]["id"]),
        (&json!(1_u64 << 32), &json!("dimm3-memory"))
    );
}

#[test]
fn a_dimm_is_gone_when_qemu_says_so_whenever_that_is() {
    let early = "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"dimm0\",\"path\":\"/\"}}\n{\"return\":{}}";
    let late = "{\"return\":{}}\n{\"event\":\"ACPI_DEVICE_OST\",\"data\":{\"info\":{\"device\":\"dimm1\"}}}\n\
                {\"event\":\"DEVICE_DELETED\",\"data\":{\"path\":\"/machine/unattached\"}}\n\
                {\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"dimm1\",\"path\":\"/\"}}";
    let (mut monitor, served) = monitor("gone", vec![vec![early, OK, late, OK]]);
    for name in ["dimm0", "dimm1"] {
        monitor.ask_back(name).unwrap();
        assert!(monitor.is_gone(name).unwrap(), "{name}");
    }
    assert_eq!(served.join().unwrap()[3]["arguments"]["id"], "dimm1-memory");
    monitor.ask_back("dimm1").unwrap_err();
    assert!(!monitor.is_gone("dimm1").unwrap(), "what was told is not told again, and a closed monitor tells nothing");
}

#[test]
fn an_unplug_that_went_wrong_is_told() {
    for (complaint, words) in [
        (
            "{\"event\":\"MEM_UNPLUG_ERROR\",\"data\":{\"device\":\"dimm0\",\"msg\":\"busy\"}}\n{\"return\":{}}",
            "QEMU says of dimm0: busy",
        ),
        (
            "{\"event\":\"DEVICE_UNPLUG_GUEST_ERROR\",\"data\":{\"device\":\"dimm0\",\"path\":\"/\"}}\n{\"return\":{}}",
            "QEMU says of dimm0: the guest refused",
        ),
    ] {
        let (mut monitor, _served) = monitor("complaint", vec![vec![complaint]]);
        monitor.ask_back("dimm0").unwrap();
        assert_eq!(monitor.news(), (vec![], vec![words.to_owned()]));
        assert_eq!(monitor.news().1, Vec::<String>::new());
    }
}

#[test]
fn a_monitor_that_closes_is_connected_to_once_more_and_then_said_to_be_gone() {
    let (mut monitor, served) = monitor("again", vec![vec![OK], vec![OK]]);
    monitor.reset().unwrap();
    monitor.reset().unwrap();
    served.join().unwrap();
    let failed = why(monitor.reset().unwrap_err());
    assert!(
        failed.starts_with("the monitor is gone (") && failed.ends_with("show, hold, release, quit still work"),
        "{failed}"
    );
}

#[test]
fn qemus_words_come_with_what_to_do() {
    for (words, advice) in [
        ("not enough space, currently 0x0 in use", "start with a larger max="),
        ("address range conflicts with memory device id='vm'", "choose a free place"),
        ("Device 'dimm7' not found", "`show` lists"),
    ] {
        let line = explain(words);
        assert!(line.starts_with(&format!("QEMU refuses: {words}: ")) && line.contains(advice), "{line}");
    }
    assert_eq!(explain("out of luck."), "QEMU refuses: out of luck");
}
