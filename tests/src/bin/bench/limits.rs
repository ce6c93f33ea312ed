//! What a limit on rows costs: the same through two daemons in turns, one of which has `@max_rows` in its policy.

use std::fs;

use nodegate_tests::daemon::{Daemon, POLICY, Settings, Target};

use super::{
    Plan,
    pgbench::{Course, Work, middle},
};

/// A limit that nothing here reaches.
const LIMIT: &str = r#"
@id("not-too-many") @max_rows("1000")
forbid (principal, action in [Action::"sql:insert", Action::"sql:update", Action::"sql:delete"], resource);
"#;

/// By itself, outside of a block.
const UPDATE: &str =
    "\\set aid random(1, 1000000)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n";

/// Measures and prints it.
pub fn print(plan: &Plan) {
    let course = Course::set_up();
    let mut settings = Settings::new(vec![Target::shop("shop", course.postgres.address())]);
    settings.policy = [POLICY, LIMIT].concat();
    "limits: { sessions: 1000 }\n".clone_into(&mut settings.more);
    let limited = Daemon::start(&settings, &course.issuer);
    let script = course.daemon.folder().join("update.sql");
    fs::write(&script, UPDATE).expect("a script");
    let by_script = ["-f", script.to_str().expect("a path")];
    let works = [Work { name: "TPC-B", words: &[] }, Work { name: "one UPDATE", words: &by_script }];
    println!("\nlimits on rows, {} rounds of {} s each way, in turns; medians", plan.rounds, plan.seconds);
    println!(
        "{:<22} {:>9} {:>9}  {:>9}  {:>9} {:>9}",
        "", "without", "@max_rows", "ratio", "µs CPU", "(without)"
    );
    for work in &works {
        for (protocol, clients) in [("simple", 1), ("simple", 8), ("prepared", 1), ("prepared", 8)] {
            let mut runs = [Vec::new(), Vec::new()];
            for _ in 0..plan.rounds {
                for (runs, daemon) in runs.iter_mut().zip([&course.daemon, &limited]) {
                    let captured = daemon.run(Some(&course.issuer.token("bench")));
                    let port = course.postgres.port();
                    let proxy = Some(daemon.pid());
                    runs.push(Course::pgbench(Some(captured), port, proxy, work, protocol, clients, plan));
                }
            }
            let [without, with] = runs.map(middle);
            println!(
                "{:<22} {:>9.0} {:>9.0}  {:>9.2}  {:>9.1} {:>9.1}",
                format!("{} {protocol} {clients}", work.name),
                without.transactions_per_second,
                with.transactions_per_second,
                with.transactions_per_second / without.transactions_per_second,
                with.proxy_cpu_us,
                without.proxy_cpu_us
            );
        }
    }
}
