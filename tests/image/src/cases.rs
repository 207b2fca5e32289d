//! The cases by name; the host's list in the `tests` package says on which machines each runs and how it must end.

mod boot;
mod fault;
mod hot_add;
mod hot_remove;
pub mod mutants;
mod parallel;
mod sharing;
mod smp;
mod tlb;

use kernel::boot::{BootInfo, refuse};
use vmemmap::granule::Granule;
use vmemmap_aarch64::El1;

use crate::mutant;
use crate::world::World;

/// Runs the case called `name`; it returns if all is well.
pub fn run<G: Granule + Send + Sync>(boot: &'static BootInfo, name: &str) {
    let world = || World::new(boot, |machine: El1<G>| machine);
    match name {
        "boot::every_page_of_ram_has_a_struct_page" => boot::ram_has_struct_pages(&world()),
        "boot::nothing_is_writable_and_executable" => boot::write_xor_execute(&world()),
        "boot::text_and_its_alias_are_read_only" => boot::text_is_read_only(&world()),
        "boot::the_lower_half_is_off" => boot::lower_half_is_off(),
        "boot::registers_are_what_the_regime_says" => boot::registers(boot),
        "boot::a_load_far_from_all_memory_faults_where_the_walk_ends" => boot::load_far_away(&world()),
        "boot::registers_are_mapped_once_as_device_memory" => boot::registers_are_device_memory(&mut world()),
        "boot::a_stack_overflow_hits_the_guard" => boot::overflow_the_stack(),
        "boot::a_panic_says_where" => panic!("on purpose"),
        "boot::a_wild_load_names_its_window" | "boot::a_fault_shows_the_walk" => boot::load_wildly(boot),
        "fault::a_spurious_fault_is_made_again" => fault::made_again(&mut world()),
        "fault::an_access_to_what_nothing_maps_is_reported" => fault::nothing_maps_it(&mut world()),
        "fault::a_store_to_a_read_only_page_is_not_spurious" => fault::read_only(&mut world()),
        "fault::a_fault_of_the_handler_while_it_prints_is_reported" => fault::while_it_prints(),
        "fault::only_translation_faults_of_el1_are_spurious" => fault::syndromes(),
        "hot_add::memmap_lies_in_the_altmap" => hot_add::memmap_lies_in_the_altmap(&mut world()),
        "hot_add::memmap_lies_in_ram" => hot_add::memmap_lies_in_ram(&mut world()),
        "hot_add::every_struct_page_is_initialised" => hot_add::struct_pages(&mut world()),
        "hot_add::the_reserve_is_never_written" => hot_add::reserve(&mut world()),
        "hot_add::the_linear_map_reaches_every_end" => hot_add::linear_ends(&mut world()),
        "hot_add::a_small_altmap_is_refused_and_nothing_changes" => hot_add::small_altmap(&mut world()),
        "hot_add::an_overlap_is_refused_and_the_first_range_stays" => hot_add::overlap(&mut world()),
        "hot_add::out_of_ram_changes_nothing_and_a_retry_works" => hot_add::out_of_ram(&mut world()),
        "hot_remove::books_balance" => hot_remove::books(&mut world()),
        "hot_remove::neighbours_go_in_either_order" => hot_remove::either_order(&mut world()),
        "hot_remove::a_hundred_rounds_leave_no_trace" => hot_remove::rounds(&mut world()),
        "parallel::all_cpus_leave_the_bytes_that_one_leaves" => parallel::same_bytes(&mut world().with_cpus()),
        "sharing::neighbours_in_one_vmemmap_page_go_in_any_order" => sharing::neighbours(&mut world()),
        "sharing::a_spread_of_offsets_and_sizes_comes_and_goes" => sharing::spread(&mut world()),
        "sharing::a_trailing_part_of_a_section_fits_nvdimms_altmap" => sharing::trailing_part(&mut world()),
        "sharing::an_add_that_fails_in_its_second_section_is_retried" => sharing::second_section(&mut world()),
        "sharing::memory_behind_ram_uses_boots_struct_pages" => sharing::early(&mut world()),
        "sharing::contiguous_runs_are_used_in_both_maps" => sharing::contiguous_runs(&mut world()),
        "sharing::a_host_is_busy_while_others_live_in_its_altmap" => sharing::lodgers(&mut world()),
        "sharing::private_and_peer_memory_and_references" => sharing::kinds_and_references(&mut world()),
        "tlb::loads_fault_after_the_removal" => tlb::loads_fault(&mut world()),
        "tlb::a_missing_invalidation_is_seen" => tlb::missing::<G>(boot),
        "tlb::struct_pages_are_gone_after_their_own_removal" => tlb::vmemmap_alone(&mut world()),
        "tlb::a_missing_invalidation_of_struct_pages_is_seen" => tlb::vmemmap_missing::<G>(boot),
        "tlb::an_invalidation_of_another_page_is_seen" => tlb::wrong_address::<G>(boot),
        "smp::every_cpu_takes_part_on_its_own_stack" => smp::takes_part::own_stack(&world().with_cpus()),
        "smp::every_cpu_probes_for_itself" => smp::takes_part::probes(&world().with_cpus()),
        "smp::a_fault_on_another_cpu_is_reported" => smp::reports::fault(&world().with_cpus()),
        "smp::a_stack_overflow_on_another_cpu_hits_its_guard" => smp::reports::overflow(&world().with_cpus()),
        "smp::a_panic_on_all_cpus_is_reported_once" => smp::reports::panics(&world().with_cpus()),
        "smp::a_panic_while_another_cpu_prints_is_reported" => smp::reports::while_printing(&world().with_cpus()),
        "smp::a_panic_does_not_cut_the_line_of_another_cpu" => smp::reports::beside_a_line(&world().with_cpus()),
        "smp::a_job_within_a_job_is_refused" => smp::reports::job_within_a_job(&world().with_cpus()),
        "smp::a_local_invalidation_leaves_other_cpus_stale" => {
            smp::tlb::local_leaves_others_stale(&mut world().with_cpus());
        }
        "smp::a_broadcast_reaches_every_cpu" => smp::tlb::broadcast_reaches_all(&mut world().with_cpus()),
        "smp::every_cpu_faults_after_the_removal" => smp::tlb::removed_everywhere(&mut world().with_cpus()),
        "smp::an_invalidation_of_one_cpu_only_is_seen" => smp::tlb::removed_here_only::<G>(boot),
        "smp::readers_see_no_wrong_page_while_ranges_come_and_go" => {
            smp::readers::no_wrong_page(&mut world().with_cpus());
        }
        "smp::a_removal_that_does_not_wait_for_readers_is_seen" => {
            smp::readers::no_wait_for_readers(&world().with_cpus());
        }
        _ => match mutant::find(name) {
            Some(mutant) => mutants::run::<G>(boot, mutant),
            None => refuse(format_args!("there is no test case {name}")),
        },
    }
}
