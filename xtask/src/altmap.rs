//! `cargo xtask altmap`: what the struct pages of a range would take of it and of RAM, before there is a machine.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};
use vmemmap::addr::{PhysAddr, PhysRange, VirtRange};
use vmemmap::altmap;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64, Level, SUBSECTION_BYTES};
use vmemmap::hotplug::LINEAR_PROTECTION;
use vmemmap::layout::{Layout, VMEMMAP_END, page_offset};
use vmemmap::leaf::{Leaf, LeafPolicy, Stretch};
use vmemmap::mapping::Mapping;
use vmemmap::regime::Regime;
use vmemmap::sim::World;
use vmemmap::table::Tables;
use vmemmap::vmemmap::Memmap;

use crate::size::{self, human};
use crate::status::{Status, Stop};

const VA_BITS: u32 = 48;
const PA_BITS: u32 = 48;
/// Where RAM, and so the linear map, begins on QEMU's `virt`.
const MEMSTART: u64 = 1 << 30;
/// Struct pages that nvdimm's altmap has room for.
const NVDIMM_STRUCT_PAGE: u64 = 64;

/// A range of device memory and how its struct pages are kept in it.
#[derive(Args, Clone, Debug)]
pub struct Altmap {
    /// Size of device memory
    #[arg(long, value_parser = size::bytes)]
    size: u64,
    /// Translation granule: 4k, 16k or 64k [default: all three]
    #[arg(long, value_parser = crate::job::granule)]
    granule: Option<GranuleSize>,
    /// Where device memory begins
    #[arg(long, value_name = "ADDRESS", default_value = "4G", value_parser = size::bytes)]
    base: u64,
    /// Bytes of a struct page
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = struct_page)]
    struct_page: u64,
    /// Which leaves map the range: the largest legal ones, those of Linux, or base pages only
    #[arg(long, default_value = "largest", value_parser = ["largest", "linux", "pages"])]
    leaf: String,
    /// Frames at the start of the range that are never written
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    reserve: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Altmap {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        println!("{}", if self.json { self.object()?.to_string() } else { self.table()? });
        Ok(Status::Pass)
    }

    fn costs(&self) -> Result<Vec<Cost>, Stop> {
        let range = self.range()?;
        let granules = self.granule.map_or(GranuleSize::ALL.to_vec(), |granule| vec![granule]);
        granules.into_iter().map(|granule| self.cost(range, granule)).collect()
    }

    fn policy(&self) -> LeafPolicy {
        match self.leaf.as_str() {
            "linux" => LeafPolicy::Linux,
            "pages" => LeafPolicy::Pages,
            _ => LeafPolicy::Largest,
        }
    }

    fn range(&self) -> Result<PhysRange, Stop> {
        size::whole_subsections("--size", self.size, 1)?;
        size::whole_subsections("--base", self.base, 0)?;
        PhysRange::new(PhysAddr::new(self.base), self.size).ok_or_else(|| self.too_high())
    }

    /// A range that wraps, or ends where the addresses end.
    fn too_high(&self) -> Stop {
        let words = format!("{:#x} + {:#x}", self.base, self.size);
        match self.base.checked_add(self.size - 1) {
            None => Stop::refused(format!("{words} wraps; choose a lower --base")),
            Some(_) => outside(&words, mappable(&Layout::linux(GranuleSize::K64, VA_BITS, MEMSTART))),
        }
    }

    /// Linux's layout, its vmemmap as large as these struct pages need.
    fn layout(&self, granule: GranuleSize) -> Result<Layout, Stop> {
        let (bytes, most) = (self.struct_page, granule.bytes() / 2);
        if !bytes.is_power_of_two() || !(8..=most).contains(&bytes) {
            let nearest = bytes.clamp(8, most).next_power_of_two();
            let rule = format!("at {granule} a struct page is a power of two from 8 to {most} bytes");
            return Err(Stop::refused(format!("--struct-page {bytes}: {rule}; {nearest} would do")));
        }
        let linux = Layout::linux(granule, VA_BITS, MEMSTART);
        let window = linux.vmemmap().bytes() / linux.struct_page_bytes() * bytes;
        let vmemmap = VirtRange::new(VMEMMAP_END.add(window.wrapping_neg()), window);
        Ok(Layout::new(granule, linux.linear(), vmemmap, MEMSTART, bytes.trailing_zeros()))
    }

    fn cost(&self, range: PhysRange, granule: GranuleSize) -> Result<Cost, Stop> {
        let layout = self.layout(granule)?;
        let mappable = mappable(&layout);
        if range.start() < mappable.start() || range.end() > mappable.end() {
            return Err(outside(&range.to_string(), mappable));
        }
        if !self.fits(&layout, range) {
            return Err(Stop::refused(self.too_large(&layout, range)));
        }
        Cost::new(layout, range, self.policy(), self.reserve)
    }

    /// Whether reserve and struct pages fit into `range`.
    fn fits(&self, layout: &Layout, range: PhysRange) -> bool {
        let required = altmap::Altmap::required(layout, range, self.policy(), self.reserve);
        required.checked_add(self.reserve).is_some_and(|frames| frames <= range.bytes() >> layout.granule().shift())
    }

    fn too_large(&self, layout: &Layout, range: PhysRange) -> String {
        let (granule, reserve) = (layout.granule(), self.reserve);
        let required = altmap::Altmap::required(layout, range, self.policy(), reserve);
        let frames = range.bytes() >> granule.shift();
        let why = match required {
            // So many that they can't be counted.
            u64::MAX => format!("--reserve {reserve} is"),
            _ => format!("--reserve {reserve} and {required} frames for struct pages at {granule} are"),
        };
        let advice = match self.smallest(layout, range) {
            Some(bytes) => format!("--size {bytes:#x} ({}) would do", human(bytes)),
            None => "no size does: reserve fewer".to_owned(),
        };
        format!("{why} more than the {frames} frames of {range}; {advice}")
    }

    /// The smallest size from `range`'s on that has room. The search begins where the reserve, and the struct pages less
    /// the two edges, would just fit; padding is at most a few sub-sections more.
    fn smallest(&self, layout: &Layout, range: PhysRange) -> Option<u64> {
        let page = layout.granule().bytes();
        let least = u128::from(self.reserve.saturating_sub(2)) * u128::from(page) * u128::from(page);
        let least = u64::try_from(least / u128::from(page - self.struct_page)).ok()?;
        let first = range.bytes().max(least - least % SUBSECTION_BYTES);
        let sizes = (0..64).map_while(|step| first.checked_add(step * SUBSECTION_BYTES));
        let ranges = sizes.map_while(|bytes| PhysRange::new(range.start(), bytes));
        let mappable = mappable(layout);
        let mut ranges = ranges.take_while(|range| range.end() <= mappable.end());
        ranges.find(|&range| self.fits(layout, range)).map(PhysRange::bytes)
    }

    fn table(&self) -> Result<String, Stop> {
        let columns: Vec<_> = self.costs()?.iter().map(Cost::cells).collect();
        let width = columns.iter().flatten().map(|(_, cell)| cell.len()).max().unwrap_or(0) + 2;
        let (range, size, struct_page, leaf) = (self.range()?, human(self.size), self.struct_page, &self.leaf);
        let mut table = format!("range     {range}   {size}, struct pages of {struct_page} bytes, --leaf {leaf}");
        for (line, (name, _)) in columns[0].iter().enumerate() {
            let _ = write!(table, "\n{name:26}");
            for column in &columns {
                let _ = write!(table, "{:>width$}", column[line].1);
            }
        }
        Ok(table)
    }

    fn object(&self) -> Result<Value, Stop> {
        let costs: Vec<_> = self.costs()?.iter().map(Cost::object).collect();
        Ok(json!({
            "schema_version": crate::report::SCHEMA_VERSION,
            "result": "pass",
            "base": format!("{:#x}", self.base),
            "size": self.size,
            "struct_page_size": self.struct_page,
            "leaf_policy": self.leaf,
            "granules": costs,
        }))
    }
}

/// Reads `--struct-page`; which powers of two there are depends on the granule.
fn struct_page(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write the bytes of a struct page: a power of two, like 64".to_owned())
}

/// What the linear map can show.
fn mappable(layout: &Layout) -> PhysRange {
    layout.mappable(PA_BITS, page_offset(VA_BITS))
}

fn outside(range: &str, mappable: PhysRange) -> Stop {
    let why = "which the linear map can show with RAM from 1 GiB and 48 bits";
    Stop::refused(format!("{range} is outside {mappable}, {why}; choose a range inside"))
}

/// What one granule takes and gives.
#[derive(Debug)]
struct Cost {
    layout: Layout,
    range: PhysRange,
    memmap: Memmap,
    /// With what the struct pages take of it.
    altmap: altmap::Altmap,
    nvdimm: Option<altmap::Altmap>,
    /// Tables of the linear map and of the vmemmap, where none is there yet.
    tables: [u64; 2],
}

impl Cost {
    fn new(layout: Layout, range: PhysRange, policy: LeafPolicy, reserve: u64) -> Result<Self, Stop> {
        let memmap = Memmap::new(&layout, layout.interior(range), policy);
        let mut altmap = altmap::Altmap::tight(&layout, range, policy, reserve);
        memmap.allocate_from(&mut altmap, |_, _| ()).map_err(|error| Stop::refused(error.to_string()))?;
        let fits = layout.struct_page_bytes() <= NVDIMM_STRUCT_PAGE;
        let nvdimm = fits.then(|| altmap::Altmap::nvdimm(range, layout.granule()));
        let count = match layout.granule() {
            GranuleSize::K4 => missing_tables::<K4>,
            GranuleSize::K16 => missing_tables::<K16>,
            GranuleSize::K64 => missing_tables::<K64>,
        };
        let tables = count(&layout, range, policy)?;
        Ok(Self { layout, range, memmap, altmap, nvdimm, tables })
    }

    fn granule(&self) -> GranuleSize {
        self.layout.granule()
    }

    /// Pages of the vmemmap that describe memory of others too.
    fn edges(&self) -> u64 {
        let (first, last) = edges(&self.layout, self.range);
        u64::from(first.is_some()) + u64::from(last.is_some())
    }

    /// The first byte behind `altmap`, and how many there are from there on.
    fn usable(&self, altmap: &altmap::Altmap) -> (PhysAddr, u64) {
        let first = altmap.storage().1.address(self.granule().shift());
        (first, self.range.end().since(first))
    }

    /// Leaves of one kind: blocks, runs or pages.
    fn leaves(&self, wanted: impl Fn(Leaf) -> bool) -> String {
        let found = self.memmap.counts().iter().find(|&(leaf, _)| wanted(leaf));
        found.map_or("-".to_owned(), |(leaf, count)| format!("{count} of {}", human(leaf.bytes(self.granule()))))
    }

    /// Percent of the range that `altmap` takes, its reserve included.
    fn share(&self, altmap: &altmap::Altmap) -> f64 {
        let bytes = self.range.bytes();
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let share = |part: u64| part as f64 * 100.0 / bytes as f64;
        share(bytes - self.usable(altmap).1)
    }

    /// The rows of its column.
    fn cells(&self) -> Vec<(&'static str, String)> {
        let (altmap, frames) = (&self.altmap, |frames: u64| frames.to_string());
        let (first, usable) = self.usable(altmap);
        let nvdimm = |show: &dyn Fn(&altmap::Altmap) -> String| self.nvdimm.as_ref().map_or("-".to_owned(), show);
        vec![
            ("granule", self.granule().to_string()),
            ("memmap", human(self.layout.pages(self.range).bytes())),
            ("  blocks", self.leaves(|leaf| leaf.level != Level::L3)),
            ("  contiguous runs", self.leaves(|leaf| leaf.contiguous)),
            ("  pages", self.leaves(|leaf| leaf == Leaf::PAGE)),
            ("altmap    reserve, frames", frames(altmap.reserve())),
            ("          alloc", frames(altmap.alloc())),
            ("          align", frames(altmap.align())),
            ("          free, tight", frames(altmap.free())),
            ("          of the range", format!("{:.3} %", self.share(altmap))),
            ("from RAM  edge pages", frames(self.edges())),
            ("          linear tables <=", frames(self.tables[0])),
            ("          memmap tables <=", frames(self.tables[1])),
            ("device    first byte", first.to_string()),
            ("          usable", human(usable)),
            ("nvdimm    reserve, frames", nvdimm(&|altmap| frames(altmap.reserve()))),
            ("          free", nvdimm(&|altmap| frames(altmap.free()))),
            ("          of the range", nvdimm(&|altmap| format!("{:.3} %", self.share(altmap)))),
            ("          usable", nvdimm(&|altmap| human(self.usable(altmap).1))),
        ]
    }

    fn object(&self) -> Value {
        let cut = |altmap: &altmap::Altmap| {
            let (first, usable) = self.usable(altmap);
            json!({
                "base_pfn": format!("{:#x}", altmap.base_pfn().number()),
                "reserve": altmap.reserve(),
                "free": altmap.free(),
                "first_byte": first.to_string(),
                "usable_bytes": usable,
            })
        };
        let leaves = self.memmap.counts().iter().map(|(leaf, count)| {
            json!({ "size": leaf.bytes(self.granule()), "contiguous": leaf.contiguous, "count": count })
        });
        let mut altmap = cut(&self.altmap);
        altmap["alloc"] = self.altmap.alloc().into();
        altmap["align"] = self.altmap.align().into();
        json!({
            "granule": self.granule().name(),
            "memmap_bytes": self.layout.pages(self.range).bytes(),
            "leaves": leaves.collect::<Vec<_>>(),
            "altmap": altmap,
            "nvdimm": self.nvdimm.as_ref().map(cut),
            "edge_pages": self.edges(),
            "linear_tables": self.tables[0],
            "memmap_tables": self.tables[1],
        })
    }
}

/// The pages of vmemmap at both ends of `range` that describe memory of others too.
pub fn edges(layout: &Layout, range: PhysRange) -> (Option<Stretch>, Option<Stretch>) {
    let (va, page) = (layout.pages(range), layout.granule().bytes());
    let edge = |va| Stretch { va, leaf: Leaf::PAGE, count: 1 };
    let (first, last) = (va.start().align_down(page), va.end().align_down(page));
    let low = (!va.start().is_aligned(page)).then(|| edge(first));
    let high = (!va.end().is_aligned(page) && (low.is_none() || first != last)).then(|| edge(last));
    (low, high)
}

/// Tables that the linear map and the vmemmap of `range` need below an empty root.
fn missing_tables<G: Granule>(layout: &Layout, range: PhysRange, policy: LeafPolicy) -> Result<[u64; 2], Stop> {
    let refused = |why: &dyn std::fmt::Display| Stop::refused(why.to_string());
    let regime = Regime::new(G::SIZE, VA_BITS, OutputFormat::Bits48).map_err(|error| refused(&error))?;
    let world = World::new(regime, PA_BITS, 1);
    // SAFETY: the root is the world's own, which nobody else uses.
    let tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), regime) };
    let linear = Mapping::linear(regime, layout, range, policy, LINEAR_PROTECTION).stretches();
    let (low, high) = edges(layout, range);
    let memmap = Memmap::new(layout, layout.interior(range), policy).stretches();
    let linear = tables.missing_tables(linear).map_err(|occupied| refused(&occupied))?;
    let memmap = tables.missing_tables(low.into_iter().chain(memmap).chain(high)).map_err(|found| refused(&found))?;
    Ok([linear, memmap])
}

#[cfg(test)]
#[path = "altmap_tests.rs"]
mod tests;
