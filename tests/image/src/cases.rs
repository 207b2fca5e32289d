//! The cases by name; the host's list in the `tests` package says on which machines each runs and how it must end.

mod boot;
mod hot_add;
mod hot_remove;
pub mod mutants;
mod tlb;

use kernel::boot::{BootInfo, refuse};
use vmemmap::granule::Granule;
use vmemmap_aarch64::El1;

use crate::mutant;
use crate::world::World;

/// Runs the case called `name`; it returns if all is well.
pub fn run<G: Granule>(boot: &'static BootInfo, name: &str) {
    let world = || World::new(boot, |machine: El1<G>| machine);
    match name {
        "boot::every_page_of_ram_has_a_struct_page" => boot::ram_has_struct_pages(&world()),
        "boot::nothing_is_writable_and_executable" => boot::write_xor_execute(&world()),
        "boot::text_and_its_alias_are_read_only" => boot::text_is_read_only(&world()),
        "boot::the_lower_half_is_off" => boot::lower_half_is_off(),
        "boot::registers_are_what_the_regime_says" => boot::registers(boot),
        "boot::a_load_far_from_all_memory_faults_where_the_walk_ends" => boot::load_far_away(&world()),
        "boot::a_stack_overflow_hits_the_guard" => boot::overflow_the_stack(),
        "boot::a_panic_says_where" => panic!("on purpose"),
        "boot::a_wild_load_names_its_window" | "boot::a_fault_shows_the_walk" => boot::load_wildly(boot),
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
        "tlb::loads_fault_after_the_removal" => tlb::loads_fault(&mut world()),
        "tlb::a_missing_invalidation_is_seen" => tlb::missing::<G>(boot),
        "tlb::struct_pages_are_gone_after_their_own_removal" => tlb::vmemmap_alone(&mut world()),
        "tlb::a_missing_invalidation_of_struct_pages_is_seen" => tlb::vmemmap_missing::<G>(boot),
        "tlb::an_invalidation_of_another_page_is_seen" => tlb::wrong_address::<G>(boot),
        _ => match mutant::find(name) {
            Some(mutant) => mutants::run::<G>(boot, mutant),
            None => refuse(format_args!("there is no test case {name}")),
        },
    }
}
