//! A QEMU with a kernel in it that serves virtio-mem devices and DIMMs by the console protocol and by QMP, and has no
//! memory. Its kernel serves what is pending when it is told to sync. `FAKE` says in which way it is broken.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::exit;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the kernel brings at once, as a memory block.
const BLOCK: u64 = 512 << 20;
/// Each device's memory begins at a multiple of this.
const ROOM: u64 = 1 << 40;

#[derive(Default)]
struct Region {
    device: usize,
    size: u64,
    holders: u64,
    dimm: Option<String>,
}

struct Machine {
    broken: String,
    /// Requests of virtio-mem devices by name, and their numbers.
    requests: BTreeMap<String, (usize, u64)>,
    slots: Option<usize>,
    /// DIMMs that were plugged or asked back, and not served yet.
    pending: Vec<(String, Option<u64>)>,
    backends: BTreeMap<String, u64>,
    regions: BTreeMap<u64, Region>,
    text: String,
    counts: [u64; 2],
    monitor: Option<UnixStream>,
    /// Events that QEMU tells at its leisure, in their order.
    late: Sender<(Option<UnixStream>, Value)>,
}

/// Runs it with the words of QEMU's command line.
pub fn main(words: &[String]) {
    if words.iter().any(|word| word == "--version") {
        println!("QEMU emulator version 7.2.22");
        return;
    }
    let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1).cloned().unwrap_or_default();
    locked(words);
    let machine = Arc::new(Mutex::new(Machine::new(words, &after("-append"))));
    let socket = after("-qmp").trim_start_matches("unix:").split(',').next().unwrap_or_default().to_owned();
    let listener = UnixListener::bind(socket).expect("the monitor's socket is free");
    let served = Arc::clone(&machine);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| monitor(&served, stream)));
    machine.lock().unwrap().boot();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        machine.lock().unwrap().console(&line);
    }
}

/// Whoever runs us holds the files that hold memory.
fn locked(words: &[String]) {
    for file in words.iter().filter_map(|word| word.split("mem-path=").nth(1)?.split(',').next()) {
        let taken = std::fs::File::open(file).expect("a file").try_lock().is_err();
        assert!(taken, "{file} is not locked");
    }
}

fn monitor(machine: &Mutex<Machine>, mut stream: UnixStream) {
    let _ = stream.write_all(b"{\"QMP\":{}}\n");
    machine.lock().unwrap().monitor = stream.try_clone().ok();
    let reader = BufReader::new(stream.try_clone().expect("a second handle"));
    for command in serde_json::Deserializer::from_reader(reader).into_iter::<Value>().map_while(Result::ok) {
        let mut machine = machine.lock().unwrap();
        if machine.broken == "monitor" && command["execute"] == "qom-set" {
            exit_monitor(&stream);
            return;
        }
        let answer = match machine.command(command["execute"].as_str().unwrap(), &command["arguments"]) {
            Ok(value) => json!({ "return": value }),
            Err(why) => json!({ "error": { "class": "GenericError", "desc": why } }),
        };
        let _ = stream.write_all(format!("{answer}\n").as_bytes());
    }
}

fn exit_monitor(stream: &UnixStream) {
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Tells events a while after they were sent.
fn late() -> Sender<(Option<UnixStream>, Value)> {
    let (sender, events) = channel::<(Option<UnixStream>, Value)>();
    std::thread::spawn(move || {
        for (monitor, event) in events {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let _ = monitor.map(|mut monitor| monitor.write_all(format!("{event}\n").as_bytes()));
        }
    });
    sender
}

fn live(event: &Value) {
    println!("@live {event}");
}

impl Machine {
    fn new(words: &[String], append: &str) -> Self {
        let requested = |name: &str| {
            let word = words.iter().find(|word| word.contains(&format!(",id={name},")));
            let text = word.and_then(|word| word.split("requested-size=").nth(1)?.split('B').next()?.parse().ok());
            text.unwrap_or(0)
        };
        let devices: Vec<_> = append.split(' ').filter_map(|word| word.strip_prefix("device=")).collect();
        let mut requests = BTreeMap::new();
        for (number, _) in devices.iter().enumerate().filter(|(_, device)| device.starts_with("virtio-mem")) {
            let count = requests.len();
            let name = if count == 0 { "virtio-mem".to_owned() } else { format!("virtio-mem.{count}") };
            let bytes = requested(&name);
            requests.insert(name, (number, bytes));
        }
        Self {
            broken: std::env::var("FAKE").unwrap_or_default(),
            requests,
            slots: devices.iter().position(|device| device.starts_with("pc-dimm")),
            pending: Vec::new(),
            backends: BTreeMap::new(),
            regions: BTreeMap::new(),
            text: String::new(),
            counts: [0; 2],
            monitor: None,
            late: late(),
        }
    }

    fn boot(&mut self) {
        println!("the fake kernel is up");
        if self.broken == "refused" {
            println!("@refused no 16k");
            exit(66);
        }
        self.serve();
        live(&json!({ "event": "ready", "granule": "64k", "page_size": 65536, "devices": [], "frames_free": 9 }));
    }

    fn command(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        let name = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let device = name("path").trim_start_matches("/machine/peripheral/").to_owned();
        match command {
            "qom-get" if name("property") == "size" => {
                let number = self.requests[&device].0;
                let lost = if self.broken == "books" { 1 << 21 } else { 0 };
                let all = self.regions.values().filter(|region| region.device == number);
                Ok(json!(all.map(|region| region.size).sum::<u64>() + lost))
            }
            "qom-get" => Ok(json!(self.requests[&device].1)),
            "qom-set" => {
                self.requests.get_mut(&device).unwrap().1 = arguments["value"].as_u64().unwrap();
                Ok(json!({}))
            }
            "object-add" => {
                self.backends.insert(name("id"), arguments["size"].as_u64().unwrap());
                Ok(json!({}))
            }
            "object-del" => self.backends.remove(&name("id")).map(|_| json!({})).ok_or("no such object".to_owned()),
            "device_add" if self.regions.values().filter(|region| region.dimm.is_some()).count() == 2 => {
                Err("no free slots available".to_owned())
            }
            "device_add" => {
                self.pending.push((name("id"), Some(self.backends[&name("memdev")])));
                Ok(json!({}))
            }
            "device_del" => {
                self.pending.push((name("id"), None));
                Ok(json!({}))
            }
            "system_reset" => {
                self.regions.clear();
                self.boot();
                Ok(json!({}))
            }
            _ => Ok(json!({})),
        }
    }

    fn serve(&mut self) {
        for (number, wanted) in self.requests.values().copied().collect::<Vec<_>>() {
            self.grow(number, wanted);
            self.shrink(number, wanted);
        }
        for (name, size) in std::mem::take(&mut self.pending) {
            match size {
                Some(size) => self.add(self.slots.unwrap(), size, Some(name)),
                None => self.eject(&name),
            }
        }
    }

    fn bytes_of(&self, device: usize) -> u64 {
        self.regions.values().filter(|region| region.device == device).map(|region| region.size).sum()
    }

    fn grow(&mut self, device: usize, wanted: u64) {
        while self.bytes_of(device) < wanted {
            if self.broken == "refuses" {
                let base = format!("{:#x}", ROOM * (device as u64 + 1));
                live(
                    &json!({ "event": "refused", "device": device, "source": "virtio-mem", "base": base, "size": BLOCK, "why": "out of RAM" }),
                );
                return;
            }
            self.add(device, BLOCK.min(wanted - self.bytes_of(device)), None);
        }
    }

    fn add(&mut self, device: usize, size: u64, dimm: Option<String>) {
        let start = ROOM * (device as u64 + 1);
        // Every region has a block's place, however small it is.
        let mut places = (start..).step_by((64 * BLOCK) as usize);
        let base = places.find(|base| !self.regions.contains_key(base)).unwrap();
        let source = if dimm.is_some() { "pc-dimm" } else { "virtio-mem" };
        self.regions.insert(base, Region { device, size, holders: 0, dimm });
        self.counts[0] += 1;
        let cost = json!({ "descriptor_writes": 24, "dsb": 2, "tlbi": 0, "ram_bytes": 0, "altmap_bytes": 524_288 });
        live(
            &json!({ "event": "added", "device": device, "source": source, "base": format!("{base:#x}"), "size": size,
            "struct_pages": size >> 16, "cost": cost, "leaves": 8, "leaves_at_plan": 8 }),
        );
    }

    fn shrink(&mut self, device: usize, wanted: u64) {
        let all: Vec<_> =
            self.regions.iter().filter(|(_, region)| region.device == device).map(|(&base, _)| base).collect();
        for base in all.into_iter().rev() {
            if self.bytes_of(device) >= wanted + self.regions[&base].size {
                self.take(base);
            }
        }
    }

    fn eject(&mut self, name: &str) {
        let found = self.regions.iter().find(|(_, region)| region.dimm.as_deref() == Some(name)).map(|(&base, _)| base);
        let gone = self.take(found.expect("a DIMM that was plugged"));
        let event = if gone {
            json!({ "event": "DEVICE_DELETED", "data": { "device": name, "path": "/" } })
        } else {
            json!({ "event": "MEM_UNPLUG_ERROR", "data": { "device": name, "msg": "busy" } })
        };
        let monitor = self.monitor.as_ref().and_then(|monitor| monitor.try_clone().ok());
        let _ = self.late.send((monitor, event));
    }

    /// Removes a region unless it is held.
    fn take(&mut self, base: u64) -> bool {
        let Region { device, size, holders, .. } = self.regions[&base];
        let range = json!({ "device": device, "source": "it", "base": format!("{base:#x}"), "size": size });
        if holders > 0 {
            let mut kept = range;
            (kept["event"], kept["why"]) = (json!("kept"), json!(format!("busy: {holders} holder")));
            live(&kept);
            return false;
        }
        self.regions.remove(&base);
        self.counts[1] += 1;
        let mut removed = range;
        removed["event"] = json!("removed");
        removed["cost"] = json!({ "descriptor_writes": 16, "dsb": 4, "tlbi": 16 });
        removed["fault"] = json!({ "far": "0xffffffdfc1000000", "level": 3 });
        live(&removed);
        true
    }

    fn console(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "sync" => match self.broken.as_str() {
                "hangs" => {}
                "panics" => {
                    println!("@panic at kernel/src/x.rs: no\nregisters\n@frame 0xffffffffffff0000");
                    exit(67);
                }
                "dies" => std::process::abort(),
                broken => {
                    if broken == "slow" {
                        std::thread::sleep(std::time::Duration::from_millis(300));
                    }
                    self.serve();
                    live(&json!({ "event": "synced", "number": rest.parse::<u64>().unwrap() }));
                }
            },
            "hold" | "release" => self.count(verb == "hold", rest),
            "show" => self.show(),
            "write" => {
                let (device, text) = rest.split_once(' ').unwrap();
                text.clone_into(&mut self.text);
                let device: usize = device.parse().unwrap();
                live(&json!({ "event": "written", "device": device, "offset": "0x80000", "bytes": text.len() }));
            }
            "read" => live(&json!({ "event": "read", "device": rest.parse::<usize>().unwrap(), "text": self.text })),
            "quit" => self.quit(),
            _ => live(&json!({ "event": "error", "why": format!("{verb} is no command") })),
        }
    }

    fn count(&mut self, hold: bool, address: &str) {
        let asked = u64::from_str_radix(address.trim_start_matches("0x"), 16).ok();
        let base = asked.or_else(|| self.regions.keys().next_back().copied());
        if let Some((region, base)) = base.and_then(|base| self.regions.get_mut(&base).zip(Some(base))) {
            region.holders = if hold { region.holders + 1 } else { region.holders.saturating_sub(1) };
            let event = if hold { "held" } else { "released" };
            live(&json!({ "event": event, "base": format!("{base:#x}"), "size": region.size }));
        } else {
            let place = base.map_or("is there".to_owned(), |base| format!("at {base:#x}"));
            live(&json!({ "event": "error", "why": format!("no region {place}") }));
        }
    }

    fn show(&self) {
        let region = |(base, region): (&u64, &Region)| json!({ "device": region.device, "source": "it", "base": format!("{base:#x}"), "size": region.size, "holders": region.holders });
        let mut ranges: Vec<_> = self.regions.iter().map(region).collect();
        if self.broken == "ledger" {
            ranges.push(region((&0x1000, &Region { size: 0x1000, ..Region::default() })));
        }
        live(&json!({ "event": "shown", "ranges": ranges, "frames_free": 9, "tables": 3 }));
    }

    fn quit(&mut self) {
        for base in self.regions.keys().copied().collect::<Vec<_>>() {
            self.regions.get_mut(&base).unwrap().holders = 0;
            self.take(base);
        }
        if self.broken == "leaks" {
            println!("@fail 1 frame is missing");
            exit(65);
        }
        live(&json!({ "event": "end", "added": self.counts[0], "removed": self.counts[1], "frames_difference": 0 }));
        println!("@pass");
        exit(0);
    }
}
