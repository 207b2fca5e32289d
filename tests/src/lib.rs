//! The bootable tests: one list, which `test-image` runs from and the harness boots from.
#![no_std]

/// A bootable test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `room::sentence`: what the image is told to run.
    pub name: &'static str,
    /// Flags as for `cargo xtask qemu`, beside those of the configuration.
    pub flags: &'static str,
    /// A configuration runs the case if its name contains this: `64k::`, `::max`, or nothing for all.
    pub on: &'static str,
    /// How the boot must end.
    pub ends: Ends,
}

/// How a boot must end.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// It passes.
    Pass,
    /// A proof fails, and one of the failures contains this.
    Fail(&'static str),
    /// It is refused with a line that contains this.
    Refused(&'static str),
    /// It panics, or takes an unexpected exception, and says this.
    Panic(&'static str),
}

const fn passes(name: &'static str) -> Case {
    Case { name, flags: "", on: "", ends: Ends::Pass }
}

impl Case {
    /// With more flags.
    const fn flags(self, flags: &'static str) -> Self {
        Self { flags, ..self }
    }

    /// Only on the configurations whose name contains this.
    const fn on(self, on: &'static str) -> Self {
        Self { on, ..self }
    }
}

const fn panics(name: &'static str, says: &'static str) -> Case {
    Case { name, flags: "", on: "", ends: Ends::Panic(says) }
}

const fn fails(name: &'static str, says: &'static str) -> Case {
    Case { name, flags: "", on: "", ends: Ends::Fail(says) }
}

/// Every bootable test, but for those that the harness boots with several numbers of CPUs.
pub const CASES: &[Case] = &[
    passes("boot::every_page_of_ram_has_a_struct_page"),
    passes("boot::nothing_is_writable_and_executable"),
    passes("boot::text_and_its_alias_are_read_only"),
    passes("boot::the_lower_half_is_off"),
    passes("boot::registers_are_what_the_regime_says"),
    passes("boot::a_load_far_from_all_memory_faults_where_the_walk_ends").on("::max"),
    passes("boot::registers_are_mapped_once_as_device_memory"),
    panics("boot::a_stack_overflow_hits_the_guard", "guard").on("neoverse-n1"),
    panics("boot::a_panic_says_where", "on purpose").on("::max"),
    panics("boot::a_wild_load_names_its_window", "8: vmemmap").on("neoverse-n1"),
    panics("boot::a_fault_shows_the_walk", "-> faults at L").on("neoverse-n1"),
    passes("fault::a_spurious_fault_is_made_again"),
    passes("fault::an_access_to_what_nothing_maps_is_reported"),
    passes("fault::a_store_to_a_read_only_page_is_not_spurious"),
    passes("fault::only_translation_faults_of_el1_are_spurious"),
    panics("fault::a_fault_of_the_handler_while_it_prints_is_reported", "in the exception handler: ")
        .on("4k::cortex-a72"),
    passes("hot_add::memmap_lies_in_the_altmap"),
    passes("hot_add::memmap_lies_in_ram"),
    passes("hot_add::every_struct_page_is_initialised").flags("--device-size 1G"),
    passes("hot_add::the_reserve_is_never_written"),
    passes("hot_add::the_linear_map_reaches_every_end"),
    passes("hot_add::a_small_altmap_is_refused_and_nothing_changes"),
    passes("hot_add::an_overlap_is_refused_and_the_first_range_stays"),
    passes("hot_add::out_of_ram_changes_nothing_and_a_retry_works").flags("--device-size 1G"),
    passes("hot_remove::books_balance"),
    passes("hot_remove::neighbours_go_in_either_order"),
    passes("hot_remove::a_hundred_rounds_leave_no_trace").flags("--device-size 1G"),
    passes("parallel::all_cpus_leave_the_bytes_that_one_leaves").flags("--smp 4 --device-size 8G"),
    passes("sharing::neighbours_in_one_vmemmap_page_go_in_any_order").flags("--device-size 1G"),
    passes("sharing::a_spread_of_offsets_and_sizes_comes_and_goes").flags("--device-size 2G"),
    passes("sharing::a_trailing_part_of_a_section_fits_nvdimms_altmap").flags("--device-size 2G"),
    passes("sharing::an_add_that_fails_in_its_second_section_is_retried").flags("--device-size 2G"),
    // RAM ends in the middle of a section, at every granule.
    passes("sharing::memory_behind_ram_uses_boots_struct_pages")
        .flags("--memory 998M --device-base 0x7e600000 --device-size 64M"),
    passes("sharing::contiguous_runs_are_used_in_both_maps").flags("--device-base 0x107800000 --device-size 5G"),
    passes("sharing::a_host_is_busy_while_others_live_in_its_altmap").flags("--device-size 1G"),
    passes("sharing::private_and_peer_memory_and_references").flags("--device-size 1G"),
    passes("tlb::loads_fault_after_the_removal"),
    // Small, or the removal itself pushes the touched addresses out of QEMU's TLB when it is made of base pages.
    fails("tlb::a_missing_invalidation_is_seen", "a stale translation").flags("--device-size 64M"),
    passes("tlb::struct_pages_are_gone_after_their_own_removal").flags("--device-size 1G"),
    fails("tlb::a_missing_invalidation_of_struct_pages_is_seen", "a stale translation").flags("--device-size 1G"),
    // QEMU forgets everything at an invalidation once it has seen a leaf above 4K: only base pages at 4K show this one.
    fails("tlb::an_invalidation_of_another_page_is_seen", "a stale translation").flags("--device-size 2M").on("pages"),
    passes("smp::every_cpu_takes_part_on_its_own_stack").flags("--smp 8"),
    passes("smp::every_cpu_probes_for_itself").flags("--smp 4").on("::max"),
    panics("smp::a_stack_overflow_on_another_cpu_hits_its_guard", "guard page of another CPU's stack")
        .flags("--smp 2")
        .on("neoverse-n1"),
    panics("smp::a_panic_while_another_cpu_prints_is_reported", "on purpose, on CPU 0").flags("--smp 2").on("16k::max"),
    panics("smp::a_panic_does_not_cut_the_line_of_another_cpu", "on purpose, on CPU 0").flags("--smp 2").on("16k::max"),
    panics("smp::a_job_within_a_job_is_refused", "no job of all CPUs begins within another")
        .flags("--smp 2")
        .on("4k::cortex-a72"),
    passes("smp::a_local_invalidation_leaves_other_cpus_stale").flags("--smp 4"),
    passes("smp::a_broadcast_reaches_every_cpu").flags("--smp 4"),
    passes("smp::every_cpu_faults_after_the_removal").flags("--smp 4").on("::max"),
    fails("smp::an_invalidation_of_one_cpu_only_is_seen", "a stale translation").flags("--smp 2 --device-size 64M"),
];
