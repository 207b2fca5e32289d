//! What we ask of QEMU: a virtio-mem device's request, DIMMs, a reset. A monitor that breaks is connected to once more.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Failure;
use crate::attach::memory_of;
use crate::qmp::{Qmp, QmpError};

/// How long QEMU may take to let go of a DIMM that the kernel has ejected.
const PATIENCE: Duration = Duration::from_secs(5);

/// The monitor of a live machine.
pub struct Monitor {
    socket: PathBuf,
    qmp: Option<Qmp>,
    /// DIMMs that QEMU has let go.
    deleted: Vec<String>,
    /// What QEMU's events say of unplugs that went wrong.
    complaints: Vec<String>,
}

impl Monitor {
    /// The monitor at `socket`; connected to when it is first used.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, qmp: None, deleted: Vec::new(), complaints: Vec::new() }
    }

    /// How many bytes a virtio-mem device was asked to have.
    pub fn requested(&mut self, device: &str) -> Result<u64, Failure> {
        self.size(device, "requested-size")
    }

    /// How many bytes of a virtio-mem device are plugged.
    pub fn plugged(&mut self, device: &str) -> Result<u64, Failure> {
        self.size(device, "size")
    }

    fn size(&mut self, device: &str, property: &str) -> Result<u64, Failure> {
        let answer = self.ask("qom-get", &json!({ "path": path(device), "property": property }))?;
        answer.as_u64().ok_or_else(|| Failure::command(format!("QEMU's {property} of {device} is no size: {answer}")))
    }

    /// Asks a virtio-mem device to have so many bytes.
    pub fn request(&mut self, device: &str, bytes: u64) -> Result<(), Failure> {
        let wish = json!({ "path": path(device), "property": "requested-size", "value": bytes });
        self.ask("qom-set", &wish).map(drop)
    }

    /// Plugs a DIMM.
    pub fn add_dimm(&mut self, name: &str, bytes: u64, at: Option<u64>) -> Result<(), Failure> {
        let memory = memory_of(name);
        let backend = json!({ "qom-type": "memory-backend-ram", "id": memory, "size": bytes, "reserve": false });
        self.ask("object-add", &backend)?;
        let mut dimm = json!({ "driver": "pc-dimm", "id": name, "memdev": memory });
        if let Some(at) = at {
            dimm["addr"] = at.into();
        }
        let plugged = self.ask("device_add", &dimm).map(drop);
        if plugged.is_err() {
            let _ = self.ask("object-del", &json!({ "id": memory }));
        }
        plugged
    }

    /// Asks the kernel for a DIMM back.
    pub fn ask_back(&mut self, name: &str) -> Result<(), Failure> {
        self.ask("device_del", &json!({ "id": name })).map(drop)
    }

    /// Whether QEMU has let go of a DIMM that the kernel has ejected, waiting for it; its memory goes too.
    pub fn is_gone(&mut self, name: &str) -> Result<bool, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.deleted.iter().any(|deleted| deleted == name) {
            let Some(event) = self.qmp.as_mut().and_then(|qmp| qmp.event(deadline)) else { return Ok(false) };
            self.take(&event);
        }
        self.deleted.retain(|deleted| deleted != name);
        self.ask("object-del", &json!({ "id": memory_of(name) })).map(|_| true)
    }

    /// Names of DIMMs that QEMU let go since it was last asked, and what it complains of.
    pub fn news(&mut self) -> (Vec<String>, Vec<String>) {
        while let Some(event) = self.qmp.as_mut().and_then(|qmp| qmp.event(Instant::now())) {
            self.take(&event);
        }
        (self.deleted.clone(), std::mem::take(&mut self.complaints))
    }

    fn take(&mut self, event: &Value) {
        let data = &event["data"];
        let device = data["device"].as_str().unwrap_or_default();
        match event["event"].as_str() {
            Some("DEVICE_DELETED") if !device.is_empty() => self.deleted.push(device.to_owned()),
            Some("MEM_UNPLUG_ERROR" | "DEVICE_UNPLUG_GUEST_ERROR") => {
                let words = data["msg"].as_str().unwrap_or("the guest refused");
                self.complaints.push(format!("QEMU says of {device}: {words}"));
            }
            // Others, ACPI_DEVICE_OST among them, say what the kernel's own events say in full.
            _ => {}
        }
    }

    /// Resets the machine.
    pub fn reset(&mut self) -> Result<(), Failure> {
        self.ask("system_reset", &json!({})).map(drop)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, Failure> {
        let mut gone = String::new();
        for _ in 0..2 {
            let asked = match self.connected() {
                Ok(qmp) => qmp.ask(command, arguments),
                Err(why) => Err(QmpError::Gone(why)),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(QmpError::Refused(words)) => return Err(Failure::command(explain(&words))),
                Err(QmpError::Gone(why)) => (self.qmp, gone) = (None, why),
            }
        }
        let still = "the kernel runs on; show, hold, release, quit still work";
        Err(Failure::command(format!("the monitor is gone ({gone}): {still}")))
    }

    fn connected(&mut self) -> Result<&mut Qmp, String> {
        let qmp = match self.qmp.take() {
            Some(qmp) => qmp,
            None => Qmp::connect(&self.socket).map_err(|stop| stop.why)?,
        };
        Ok(self.qmp.insert(qmp))
    }
}

fn path(device: &str) -> String {
    format!("/machine/peripheral/{device}")
}

/// QEMU's words, and what to do.
fn explain(words: &str) -> String {
    let known = [
        ("no free slots", "unplug a DIMM first"),
        ("not enough space", "choose a smaller size, unplug something, or start with a larger max="),
        ("could not find position", "choose a smaller size, unplug something, or start with a larger max="),
        ("address range conflicts", "leave at= away, or choose a free place"),
        ("can't add memory device", "leave at= away, or choose a place in the range that it names"),
        ("must be aligned", "leave at= away, or choose a multiple"),
        ("must be multiple", "choose such a size"),
        ("Cannot allocate memory", "choose a smaller size: the host has no more"),
        ("not found", "`show` lists what is there"),
    ];
    let words = words.trim_end_matches('.');
    match known.iter().find(|(text, _)| words.contains(text)) {
        Some((_, advice)) => format!("QEMU refuses: {words}: {advice}"),
        None => format!("QEMU refuses: {words}"),
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
