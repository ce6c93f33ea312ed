//! The bulk transfers of `cargo xtask bench` alone.

fn main() {
    nodegate_tests::throughput::print(3, 3);
}
