//! The subcommands `run` and `scenarios`.
//!
//! Responsible for which scenarios are played, for what is printed and written of them, and for the verdict on all of
//! them: every invariant held, every expectation met. Must never count a scenario that could not be played as one that
//! went well.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::expectation::Expectation;
use super::figure::{FIGURES, Of, Seen};
use super::parse::parse;
use super::run::{Played, play, play_on};
use super::stage::{Deployment, NotHere};
use super::{Scenario, shipped};
use crate::cluster::Launcher;
use crate::error::HarnessError;
use crate::interruption::Interruption;
use crate::invariant;
use crate::record::Record;
use crate::report::{ExpectationResult, Figures, Summary, html, say, terminal};

/// What to run.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Names of shipped scenarios, scenario files, or `all`
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Seed of everything random: arrivals, callers, drawn faults [default: another one each time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Send so many times the load
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub scale: f64,
    /// Take so many times the time
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub duration: f64,
    /// Write record.json, summary.json and report.html here; of several scenarios each into a folder of its name
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A deployment to run against.
    #[command(flatten)]
    pub deployment: Deployment,
}

/// What to show.
#[derive(Debug, Args)]
pub struct ScenariosOptions {
    /// Print the file of this scenario
    #[arg(value_name = "SCENARIO", conflicts_with = "figures")]
    pub name: Option<String>,
    /// List the figures that a scenario can expect something of
    #[arg(long)]
    pub figures: bool,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.001..=1000.0).contains(&factor) { Ok(factor) } else { Err("must be 0.001 to 1000".to_owned()) }
}

/// Lists scenarios or figures, or prints a file.
pub fn scenarios(options: &ScenariosOptions) -> Result<(), HarnessError> {
    if options.figures {
        for figure in &FIGURES {
            let of = match figure.of {
                Of::Run => "",
                Of::Callers => "[.USER_TYPE or .STREAM]",
                Of::Code => "[.CODE]",
                Of::Stream => ".STREAM",
            };
            say(format_args!("{}{of}\n    {}", figure.name, figure.meaning));
        }
        return Ok(());
    }
    let Some(name) = &options.name else {
        let width = shipped::names().map(str::len).max().unwrap_or(0);
        for scenario in shipped::names().filter_map(shipped::scenario).flatten() {
            say(format_args!("{:<width$}  {}", scenario.name, scenario.about));
        }
        return Ok(());
    };
    let text = shipped::text(name).ok_or_else(|| HarnessError::Misuse(unknown(name)))?;
    say(text.trim_end());
    Ok(())
}

/// Plays every scenario that is asked for, one after the other; whether all that could be played were good.
pub async fn run(options: RunOptions) -> Result<bool, HarnessError> {
    let scenarios = chosen(&options.scenarios).map_err(|faults| HarnessError::Misuse(faults.join("\n")))?;
    let stop = CancellationToken::new();
    let (interruption, stopping) = (Interruption::listen()?, stop.clone());
    let _listening = AbortOnDropHandle::new(tokio::spawn(async move {
        interruption.heard().await;
        stopping.cancel();
    }));
    let several = scenarios.len() > 1;
    let (mut good, mut bad, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for scenario in scenarios {
        let name = scenario.name.clone();
        let out = options.out.as_ref().map(|out| if several { out.join(&name) } else { out.clone() });
        match Box::pin(one(&options, &scenario, out.as_deref(), &stop)).await? {
            Ok(true) => good.push(name),
            Ok(false) => bad.push(name),
            Err(NotHere(why)) => {
                say(format_args!("{name}: NOT RUN: {why}"));
                left_out.push(name);
            }
        }
    }
    if several {
        say(format_args!("\n{} good: {}", good.len(), good.join(" ")));
        for (what, names) in [("bad", &bad), ("NOT RUN", &left_out)] {
            if !names.is_empty() {
                say(format_args!("{} {what}: {}", names.len(), names.join(" ")));
            }
        }
    }
    Ok(bad.is_empty() && !good.is_empty())
}

/// Plays one scenario, prints and writes what came of it; whether everything was good.
async fn one(
    options: &RunOptions,
    scenario: &Scenario,
    out: Option<&Path>,
    stop: &CancellationToken,
) -> Result<Result<bool, NotHere>, HarnessError> {
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let scenario = scenario.scaled(options.scale, options.duration);
    say(format_args!("\n{} · seed {seed}\n{}", scenario.name, scenario.about));
    let on_deployment = !options.deployment.urls.is_empty();
    let played = if on_deployment {
        Ok(Box::pin(play_on(&options.deployment, &scenario, seed, stop)).await?)
    } else {
        Box::pin(play(&scenario, seed, Launcher::beside_current_exe()?, stop)).await?
    };
    let played = match played {
        Ok(played) => played,
        Err(not_here) => return Ok(Err(not_here)),
    };
    let results = judge(&scenario.expect, &played, on_deployment);
    let verdicts = invariant::check(&played.record);
    let summary = Summary::of(&played.record, &verdicts, &results);
    for note in &played.notes {
        say(format_args!("note: {note}"));
    }
    say(terminal(&summary));
    if let Some(out) = out {
        write(out, &played.record, &summary)?;
    }
    Ok(Ok(summary.is_good()))
}

/// Holds what was expected against what was seen. Of a deployment some figures cannot be known, and are not asked for.
fn judge(expectations: &[Expectation], played: &Played, on_deployment: bool) -> Vec<ExpectationResult> {
    let figures = Figures::of(&played.record);
    let seen = Seen { record: &played.record, figures: &figures };
    let asked = expectations.iter().filter(|expectation| !on_deployment || expectation.is_known(&seen));
    let mut results: Vec<ExpectationResult> = asked.map(|expectation| expectation.judge(&seen)).collect();
    for (member, last_words) in &played.ended {
        let last = last_words.lines().last().unwrap_or("without a word");
        results.push(ExpectationResult {
            name: format!("{member} runs on"),
            wanted: "until it is ended".to_owned(),
            found: format!("ended by itself: {last}"),
            met: false,
        });
    }
    results
}

fn write(out: &Path, record: &Record, summary: &Summary) -> Result<(), HarnessError> {
    let wrong = |what: &str| HarnessError::io(format!("writing {what} into {}", out.display()));
    std::fs::create_dir_all(out).map_err(wrong("a folder"))?;
    write_json(&out.join("record.json"), record)?;
    write_json(&out.join("summary.json"), summary)?;
    std::fs::write(out.join("report.html"), html(record, summary)).map_err(wrong("report.html"))
}

fn write_json(file: &Path, value: &impl Serialize) -> Result<(), HarnessError> {
    let wrong = || HarnessError::io(format!("writing {}", file.display()));
    let mut buffer = std::io::BufWriter::new(std::fs::File::create(file).map_err(wrong())?);
    serde_json::to_writer(&mut buffer, value).map_err(std::io::Error::from).map_err(wrong())?;
    std::io::Write::flush(&mut buffer).map_err(wrong())
}

/// Every scenario that is asked for, or all that is wrong with the question.
fn chosen(asked: &[String]) -> Result<Vec<Scenario>, Vec<String>> {
    let (mut scenarios, mut faults) = (Vec::new(), Vec::new());
    let names = asked.iter().flat_map(|name| match name.as_str() {
        "all" => shipped::names().map(str::to_owned).collect(),
        _ => vec![name.clone()],
    });
    for name in names {
        match read(&name) {
            Ok(scenario) => scenarios.push(scenario),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(scenarios) } else { Err(faults) }
}

/// A shipped scenario by its name, or the one in this file.
fn read(name: &str) -> Result<Scenario, String> {
    if let Some(shipped) = shipped::scenario(name) {
        return shipped.map_err(|error| error.to_string());
    }
    if !Path::new(name).is_file() {
        return Err(unknown(name));
    }
    let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
    parse(name, &text).map_err(|error| error.to_string())
}

fn unknown(name: &str) -> String {
    let like = shipped::like(name).unwrap_or_default();
    format!("{name:?} is neither a shipped scenario nor a file; the nearest shipped one is {like:?}")
}
