//! A live machine and the talk with it: what was asked goes to QEMU and to the kernel, and the kernel's events come back
//! until it is in step again.

use std::time::{Duration, Instant};

use super::Failure;
use super::command::{Command, short};
use super::event::{self, Event, Region, Told};
use super::ledger::Ledger;
use super::monitor::Monitor;
use super::screen::Screen;
use super::verdict::{Wish, judge};
use crate::attach::dimm;
use crate::device::{Device, Kind};
use crate::line::Boot;
use crate::machine::{Heard, Qemu};
use crate::outcome::Run;
use crate::screen::row;
use crate::size::human;
use crate::status::{Status, Stop};

/// A live machine.
pub struct Session<'a> {
    boot: &'a Boot,
    qemu: Qemu,
    /// What the kernel said.
    pub run: Run,
    pub screen: Screen,
    pub(super) monitor: Monitor,
    pub(super) ledger: Ledger,
    pub(super) devices: Vec<Device>,
    pub(super) dimms: Dimms,
    synced: u64,
    limit: Duration,
    /// When the command that is done now takes too long.
    deadline: Instant,
}

/// The DIMMs that QEMU has.
#[derive(Clone, Debug, Default)]
pub(super) struct Dimms {
    /// Name and bytes.
    pub there: Vec<(String, u64)>,
    /// How many there were ever: no name comes twice.
    count: usize,
}

impl Dimms {
    /// Those that are there at the start.
    fn of(devices: &[Device]) -> Self {
        let first = devices.iter().find(|device| device.kind == Kind::PcDimm && device.bytes > 0);
        let mut dimms = Self::default();
        if let Some(device) = first {
            dimms.plugged(device.bytes);
        }
        dimms
    }

    /// The name of the next.
    fn next(&self) -> String {
        dimm(self.count)
    }

    fn plugged(&mut self, bytes: u64) {
        let name = self.next();
        self.there.push((name, bytes));
        self.count += 1;
    }

    /// What they are called.
    fn names(&self) -> String {
        self.there.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// How much they have in all.
    pub fn bytes(&self) -> u64 {
        self.there.iter().map(|(_, bytes)| bytes).sum()
    }

    fn bytes_of(&self, name: &str) -> Option<u64> {
        self.there.iter().find(|(there, _)| there == name).map(|&(_, bytes)| bytes)
    }
}

impl<'a> Session<'a> {
    /// Starts the machine; no command may come longer than `limit`.
    ///
    /// # Errors
    /// QEMU can't be started.
    pub fn start(boot: &'a Boot, screen: Screen, limit: Duration) -> Result<Self, Stop> {
        let devices = boot.job.devices();
        let monitor = Monitor::new(boot.live.clone().unwrap_or_default());
        let (dimms, qemu) = (Dimms::of(&devices), Qemu::start(boot)?);
        let (run, ledger) = (Run::new(), Ledger::default());
        let deadline = Instant::now() + limit;
        Ok(Self { boot, qemu, run, screen, monitor, ledger, devices, dimms, synced: 0, limit, deadline })
    }

    /// Waits until all is up and what was there at boot is served.
    ///
    /// # Errors
    /// The machine ends before, or takes too long.
    pub fn ready(&mut self) -> Result<(), Stop> {
        self.until(|event| matches!(event, Event::Ready { .. })).map(drop)
    }

    /// Does a command; `waits` for its effect, or leaves it to later ones.
    ///
    /// # Errors
    /// It did not come true, or the machine has ended.
    pub fn perform(&mut self, command: &Command, waits: bool) -> Result<(), Failure> {
        self.deadline = Instant::now() + self.limit;
        self.step(command, waits)
    }

    /// The same for a command, or for a part of one: a step of `random` has what the steps before it left of the time.
    pub(super) fn step(&mut self, command: &Command, waits: bool) -> Result<(), Failure> {
        match command {
            Command::Plug { bytes, device, at } => {
                let wish = self.plug(*bytes, device.as_deref(), *at)?;
                self.settle_request(&wish, waits)
            }
            Command::Unplug { bytes, device } => {
                let wish = self.unplug(*bytes, device.as_deref())?;
                self.settle_request(&wish, waits)
            }
            Command::UnplugAll { device } => self.unplug_all(device.as_deref(), waits),
            Command::UnplugDimm { name } => self.unplug_dimm(name, waits),
            Command::Hold(address) => self.tell(&with("hold", *address), waits),
            Command::Release(address) => self.tell(&with("release", *address), waits),
            Command::Show => self.tell("show", waits),
            Command::Write { device, text } => self.tell(&format!("write {} {text}", self.number(device)?), waits),
            Command::Read { device } => self.tell(&format!("read {}", self.number(device)?), waits),
            Command::Reset => self.reset(),
            Command::Random { steps, seed } => self.random(*steps, *seed),
            Command::Kill | Command::Quit | Command::Help => Ok(()),
        }
    }

    /// The device of that name; without one, the first whose memory comes and goes.
    fn pluggable(&self, name: Option<&str>) -> Result<usize, Failure> {
        let first = || self.devices.iter().position(|device| device.kind.is_pluggable());
        let Some(name) = name else {
            return first()
                .ok_or_else(|| Failure::command("no device takes memory: start with --device virtio-mem or pc-dimm"));
        };
        let number = self.number(name)?;
        if self.devices[number].kind.is_pluggable() {
            return Ok(number);
        }
        Err(Failure::command(format!("{name} is there as a whole, from the start to the end")))
    }

    fn number(&self, name: &str) -> Result<usize, Failure> {
        let names = &self.screen.names;
        let unknown =
            || Failure::command(format!("there is no device {:?}: there are {}", short(name), names.join(", ")));
        names.iter().position(|known| known == name).ok_or_else(unknown)
    }

    fn plug(&mut self, bytes: u64, device: Option<&str>, at: Option<u64>) -> Result<Wish, Failure> {
        let number = self.pluggable(device)?;
        let Device { kind, block, .. } = self.devices[number];
        if kind == Kind::PcDimm {
            self.has_room(number, self.dimms.bytes(), bytes)?;
            let name = self.dimms.next();
            self.monitor.add_dimm(&name, bytes, at)?;
            self.dimms.plugged(bytes);
            self.screen.dimm(&name, bytes);
            return Ok(Wish::More(number, bytes));
        }
        let name = self.screen.names[number].clone();
        if at.is_some() {
            return Err(Failure::command(format!("{name} grows where it has place: leave at= away")));
        }
        multiple(bytes, block)?;
        let requested = self.monitor.requested(&name)?;
        self.has_room(number, requested, bytes)?;
        self.monitor.request(&name, requested + bytes)?;
        Ok(Wish::More(number, bytes))
    }

    /// Whether a device that has `taken` bytes may have so many more.
    fn has_room(&self, number: usize, taken: u64, bytes: u64) -> Result<(), Failure> {
        let (name, most) = (&self.screen.names[number], self.devices[number].most);
        let left = most.saturating_sub(taken);
        if bytes <= left {
            return Ok(());
        }
        let (most, left) = (human(most), human(left));
        Err(Failure::command(format!("{name} has room for {most}, of which {left} are left: plug at most that")))
    }

    fn unplug(&mut self, bytes: u64, device: Option<&str>) -> Result<Wish, Failure> {
        let number = self.pluggable(device)?;
        let name = self.screen.names[number].clone();
        if self.devices[number].kind == Kind::PcDimm {
            return Err(Failure::command(format!("a DIMM goes whole: unplug one of [{}], or all", self.dimms.names())));
        }
        multiple(bytes, self.devices[number].block)?;
        let requested = self.monitor.requested(&name)?;
        let Some(rest) = requested.checked_sub(bytes) else {
            return Err(Failure::command(format!(
                "{name} was asked to have {}: unplug at most that",
                human(requested)
            )));
        };
        self.monitor.request(&name, rest)?;
        Ok(Wish::Less(number, bytes))
    }

    fn unplug_all(&mut self, device: Option<&str>, waits: bool) -> Result<(), Failure> {
        let number = self.pluggable(device)?;
        if self.devices[number].kind == Kind::VirtioMem {
            let wish = Wish::Less(number, self.ledger.bytes_of(number));
            self.monitor.request(&self.screen.names[number].clone(), 0)?;
            return self.settle_request(&wish, waits);
        }
        let there: Vec<_> = self.dimms.there.iter().map(|(name, _)| name.clone()).collect();
        // Each is asked, whatever becomes of the others.
        let failed = there.iter().filter_map(|name| self.unplug_dimm(name, waits).err());
        failed.collect::<Vec<_>>().into_iter().next().map_or(Ok(()), Err)
    }

    fn unplug_dimm(&mut self, name: &str, waits: bool) -> Result<(), Failure> {
        let unknown =
            || Failure::command(format!("there is no DIMM {}: there are [{}]", short(name), self.dimms.names()));
        let bytes = self.dimms.bytes_of(name).ok_or_else(unknown)?;
        let number = self.pluggable(Some(Kind::PcDimm.name()))?;
        self.monitor.ask_back(name)?;
        self.settle(&Wish::Less(number, bytes), waits)?;
        if waits && !self.forget(name)? {
            return Err(Failure::command(format!("the kernel removed {name}, but QEMU does not let it go")));
        }
        Ok(())
    }

    /// Waits until QEMU has let a DIMM go, and gives its memory back; whether it has.
    fn forget(&mut self, name: &str) -> Result<bool, Failure> {
        if self.dimms.bytes_of(name).is_none() {
            return Ok(true);
        }
        let gone = self.monitor.is_gone(name)?;
        self.dimms.there.retain(|(there, _)| !gone || there != name);
        Ok(gone)
    }

    /// A word to the kernel, and its answer.
    fn tell(&mut self, line: &str, waits: bool) -> Result<(), Failure> {
        self.qemu.say(line);
        if !waits {
            return Ok(());
        }
        self.screen.asked = true;
        let heard = self.sync();
        self.screen.asked = false;
        let events = heard?;
        let told = judge(&Wish::Answer, &events);
        for why in others(&events, told.as_ref().err()) {
            self.screen.say(&row("kernel", why));
        }
        told.map_err(Failure::command)
    }

    /// The same as [`settle`](Self::settle) of what a device was asked to have. What did not come true is not asked any
    /// more: the request goes back to what is plugged.
    fn settle_request(&mut self, wish: &Wish, waits: bool) -> Result<(), Failure> {
        let settled = self.settle(wish, waits);
        let (&Wish::More(number, _) | &Wish::Less(number, _), Err(Failure::Command(why))) = (wish, &settled) else {
            return settled;
        };
        if self.devices[number].kind != Kind::VirtioMem {
            return settled;
        }
        let name = self.screen.names[number].clone();
        let plugged = self.monitor.plugged(&name)?;
        self.monitor.request(&name, plugged)?;
        self.sync()?;
        Err(Failure::command(format!("{why}; {name} is asked to have {} again", human(plugged))))
    }

    /// Waits until the kernel is in step, and says whether a wish came true.
    fn settle(&mut self, wish: &Wish, waits: bool) -> Result<(), Failure> {
        if !waits {
            return Ok(());
        }
        let events = self.sync()?;
        judge(wish, &events).map_err(Failure::command)
    }

    /// Waits until the kernel has served all that was pending. Returns what it said.
    fn sync(&mut self) -> Result<Vec<Event>, Failure> {
        self.synced += 1;
        let number = self.synced;
        self.qemu.say(&format!("sync {number}"));
        let events = self.until(|event| matches!(event, Event::Synced { number: told } if *told == number))?;
        let (gone, complaints) = self.monitor.news();
        for complaint in complaints {
            self.screen.log(&complaint);
        }
        for name in gone {
            self.forget(&name)?;
        }
        Ok(events)
    }

    fn reset(&mut self) -> Result<(), Failure> {
        // What is still on its way must not be taken for the next kernel's.
        self.sync()?;
        self.monitor.reset()?;
        self.ledger.clear();
        Ok(self.ready()?)
    }

    /// What the kernel lists.
    pub(super) fn shown(&mut self) -> Result<Vec<Region>, Failure> {
        self.qemu.say("show");
        let events = self.sync()?;
        let shown = events.into_iter().find_map(|event| match event {
            Event::Shown { ranges, .. } => Some(ranges),
            _ => None,
        });
        shown.ok_or_else(|| Failure::command("the kernel does not answer `show`"))
    }

    /// Hears the kernel until `done`. Returns what it said.
    fn until(&mut self, done: impl Fn(&Event) -> bool) -> Result<Vec<Event>, Stop> {
        let mut events = Vec::new();
        while Instant::now() < self.deadline {
            let Some(told) = self.hear()? else { continue };
            let last = done(&told.event);
            events.push(told.event);
            if last {
                return Ok(events);
            }
        }
        let limit = self.limit;
        Err(Stop::machine(format!(
            "the command did not end within {limit:?}, QEMU was stopped: give more --time-limit; --verbose shows the kernel's log"
        )))
    }

    /// Hears the kernel for a tick.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn hear(&mut self) -> Result<Option<Told>, Stop> {
        let line = match self.qemu.hear()? {
            Heard::Line(line) => line,
            Heard::Nothing => return Ok(None),
            Heard::Closed => return Err(self.dead()),
        };
        let told = event::read(&line)?;
        if let Some(told) = &told {
            self.ledger.take(&told.event);
            self.screen.event(told);
        } else {
            self.run.keep(line.clone());
            if !line.starts_with('@') || line.starts_with("@fail") {
                self.screen.log(&line);
            }
        }
        Ok(told)
    }

    /// Why the machine has ended while we talked with it.
    fn dead(&mut self) -> Stop {
        let stop = self.qemu.ended(&self.run, self.boot);
        if stop.status == Status::Pass {
            Stop::machine("the kernel ended by itself; --verbose shows its log")
        } else {
            stop
        }
    }

    /// Tells the kernel to end, and hears it until QEMU is gone. Returns how many ranges it added and removed, where it
    /// said so, and how it ended.
    ///
    /// # Errors
    /// It does not end.
    pub fn quit(mut self) -> Result<Ended, Stop> {
        self.qemu.say("quit");
        let (start, mut end) = (Instant::now(), None);
        while start.elapsed() < self.limit {
            match self.qemu.hear()? {
                Heard::Line(line) => match event::read(&line)? {
                    Some(told) => {
                        self.screen.event(&told);
                        end = end.or(books(&told.event));
                    }
                    None => drop(self.run.keep(line)),
                },
                Heard::Nothing => {}
                Heard::Closed => {
                    let stop = self.qemu.ended(&self.run, self.boot);
                    return Ok(Ended { run: self.run, screen: self.screen, end, stop });
                }
            }
        }
        Err(Stop::machine(format!("the kernel did not end within {:?}, QEMU was stopped", self.limit)))
    }

    /// Kills QEMU.
    pub fn kill(self) {
        self.qemu.stop();
    }
}

/// A session whose kernel was told to end.
pub struct Ended {
    pub run: Run,
    pub screen: Screen,
    /// How many ranges were added and removed, and how many frames differ, if the kernel said so.
    pub end: Option<(u64, u64, i64)>,
    /// How it ended.
    pub stop: Stop,
}

const fn books(event: &Event) -> Option<(u64, u64, i64)> {
    match event {
        Event::End { added, removed, frames_difference } => Some((*added, *removed, *frames_difference)),
        _ => None,
    }
}

/// What the kernel could not do of earlier words; `ours`, of the last, is told as the command's failure.
fn others<'a>(events: &'a [Event], ours: Option<&String>) -> impl Iterator<Item = &'a String> {
    let errors = events.iter().filter_map(|event| if let Event::Error { why } = event { Some(why) } else { None });
    let count = errors.clone().count() - usize::from(ours.is_some());
    errors.take(count)
}

/// A word to the kernel with an address.
fn with(verb: &str, address: Option<u64>) -> String {
    address.map_or(verb.to_owned(), |address| format!("{verb} {address:#x}"))
}

fn multiple(bytes: u64, block: u64) -> Result<(), Failure> {
    if bytes.is_multiple_of(block) {
        return Ok(());
    }
    Err(Failure::command(format!("{bytes:#x} bytes are no multiple of the device's blocks of {}", human(block))))
}
