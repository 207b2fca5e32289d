//! What the compiler refuses. Each comes in two blocks that differ in one step: the first compiles, the second does not.

/// H9: there is no altmap to ask for where the CPU can't reach the memory.
///
/// ```no_run
/// use vmemmap::{addr::PhysRange, altmap::Altmap, hotplug::Request};
/// fn ask(range: PhysRange, altmap: Altmap) {
///     let request = unsafe { Request::new(range) };
///     let _ = request.altmap(altmap);
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{addr::PhysRange, altmap::Altmap, hotplug::Request};
/// fn ask(range: PhysRange, altmap: Altmap) {
///     let request = Request::private(range);
///     let _ = request.altmap(altmap);
/// }
/// ```
fn private_memory_with_an_altmap() {}

/// H9: nor where a peer's window would hold struct pages.
///
/// ```no_run
/// use vmemmap::{addr::PhysRange, altmap::Altmap, hotplug::Request};
/// fn ask(range: PhysRange, altmap: Altmap) {
///     let request = unsafe { Request::peer_to_peer(range) };
///     let _ = request.storage();
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{addr::PhysRange, altmap::Altmap, hotplug::Request};
/// fn ask(range: PhysRange, altmap: Altmap) {
///     let request = unsafe { Request::peer_to_peer(range) };
///     let _ = request.altmap(altmap);
/// }
/// ```
fn a_peers_window_with_an_altmap() {}

/// B10: whoever walks the tables borrows them, and nothing is removed meanwhile.
///
/// ```no_run
/// use vmemmap::{addr::VirtAddr, hotplug::{Hotplug, Region}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn dump<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, region: Region, va: VirtAddr) {
///     let tables = map.tables();
///     tables.walk(va);
///     let _ = map.remove(region);
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{addr::VirtAddr, hotplug::{Hotplug, Region}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn dump<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, region: Region, va: VirtAddr) {
///     let tables = map.tables();
///     let _ = map.remove(region);
///     tables.walk(va);
/// }
/// ```
fn a_walk_of_tables_while_they_change() {}

/// B20: writers hold the memory map alone: a plan ends before the next operation begins.
///
/// ```no_run
/// use vmemmap::{hotplug::{Hotplug, Region, Request}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn work<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, request: Request, region: Region) {
///     let plan = map.plan(request).unwrap();
///     let _ = plan.commit();
///     let _ = map.remove(region);
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{hotplug::{Hotplug, Region, Request}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn work<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, request: Request, region: Region) {
///     let plan = map.plan(request).unwrap();
///     let _ = map.remove(region);
///     let _ = plan.commit();
/// }
/// ```
fn a_removal_between_plan_and_commit() {}

/// B18: a range is removed once, by what its add returned, and that knows the range's altmap.
///
/// ```no_run
/// use vmemmap::{hotplug::{Hotplug, Region}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn remove<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, region: Region, other: Region) {
///     let _ = map.remove(region);
///     let _ = map.remove(other);
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{hotplug::{Hotplug, Region}, meta::Meta, seam::{Frames, Machine, Quiesce}};
/// fn remove<M: Machine, F: Frames + Quiesce, P: Meta>(map: &mut Hotplug<M, F, P>, region: Region, other: Region) {
///     let _ = map.remove(region);
///     let _ = map.remove(region);
/// }
/// ```
fn a_second_removal_of_one_range() {}

/// Struct pages are lent to other CPUs until `share` returns: nobody writes one whose pfn is valid.
///
/// ```no_run
/// use vmemmap::{hotplug::Plan, meta::Meta, seam::{Frames, Machine}};
/// fn share<M: Machine, F: Frames, P: Meta>(plan: Plan<M, F, P>, mut cpu: impl Machine + Send) {
///     let _ = plan.commit_with(|work| {
///         std::thread::scope(|scope| drop(scope.spawn(move || unsafe { work.help(&mut cpu) })));
///     });
/// }
/// ```
/// ```compile_fail
/// use vmemmap::{hotplug::Plan, meta::Meta, seam::{Frames, Machine}};
/// fn share<M: Machine, F: Frames, P: Meta>(plan: Plan<M, F, P>, mut cpu: impl Machine + Send) {
///     std::thread::scope(|scope| {
///         let _ = plan.commit_with(|work| drop(scope.spawn(move || unsafe { work.help(&mut cpu) })));
///     });
/// }
/// ```
fn a_helper_that_outlives_the_share() {}
