//! Prints the trace that an input of the target `trace` stands for, as `cargo xtask check` takes it.

fn main() -> std::io::Result<()> {
    let file = std::env::args_os().nth(1).expect("the input's file");
    for event in vmemmap_fuzz::trace::read(&std::fs::read(file)?) {
        println!("{event}");
    }
    Ok(())
}
