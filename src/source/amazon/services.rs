//! What single services tell, by the `detail-type` of their events. Fields that are passed on may be missing: test events
//! lack many.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::super::alert::link;
use super::super::aws::{Arn, Event};
use super::super::json::{self, text};
use super::super::sns::Envelope;
use super::super::{ParseError, severity};
use super::{Said, facts, key_of, lines};
use crate::domain::alert::{Alert, Object, Severity, Status};

/// What is known of this event; `None` where nothing is but its envelope.
pub fn said(event: &Event<'_>) -> Result<Option<Said>, ParseError> {
    // A test event may have nothing else.
    if event.detail.is_none() {
        return Ok(None);
    }
    let said = match event.detail_type.as_str() {
        "GuardDuty Finding" => guard_duty(event)?,
        "GuardDuty Malware Protection Object Scan Result" => malware_scan(event)?,
        "Security Hub Findings - Imported" => security_hub(event)?,
        "Inspector2 Finding" => inspector(event)?,
        "ECR Image Scan" => image_scan(event)?,
        "AWS Health Event" => health(event)?,
        "CodePipeline Pipeline Execution State Change"
        | "CodePipeline Stage Execution State Change"
        | "CodePipeline Action Execution State Change" => pipeline(event)?,
        "CodeBuild Build State Change" => build(event)?,
        "ECS Task State Change" => task(event)?,
        "ECS Deployment State Change" => deployment(event)?,
        "EC2 Spot Instance Interruption Warning" => spot(event)?,
        "EC2 Instance Launch Unsuccessful" | "EC2 Instance Terminate Unsuccessful" => auto_scaling(event)?,
        "Backup Job State Change" | "Copy Job State Change" | "Restore Job State Change" => backup(event)?,
        "AWS API Call via CloudTrail" | "AWS Console Sign In via CloudTrail" => api_call(event)?,
        kind if kind.starts_with("RDS DB ") => database(event)?,
        _ => return Ok(None),
    };
    Ok(Some(said))
}

/// What a message of SNS tells that is of a known form and no event; `None` for all others.
pub fn noticed(envelope: &Envelope) -> Option<Alert> {
    budget(envelope).or_else(|| anomaly(envelope))
}

fn one(alert: Alert) -> Result<Said, ParseError> {
    Ok(Ok(vec![alert]))
}

fn object(kind: &str, name: Option<String>) -> Option<Object> {
    Some(Object { kind: Some(kind.to_owned()), namespace: None, name: text(name)? })
}

/// What went well: it ends what failed before under the same key.
fn well(alert: &mut Alert) {
    (alert.status, alert.severity, alert.recovers) = (Status::Event, Severity::Info, true);
}

#[derive(Deserialize)]
struct Finding {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    severity: Option<f64>,
    title: Option<String>,
    description: Option<String>,
    service: Option<FindingService>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FindingService {
    #[serde(default)]
    archived: bool,
    count: Option<u64>,
    #[serde(default, deserialize_with = "json::time")]
    event_first_seen: Option<Timestamp>,
}

fn guard_duty(event: &Event<'_>) -> Result<Said, ParseError> {
    let finding: Finding = event.detail()?;
    if finding.service.as_ref().is_some_and(|service| service.archived) {
        return Ok(Err("the finding is archived"));
    }
    let severity = match finding.severity {
        Some(9.0..) => Severity::Critical,
        Some(7.0..) => Severity::Error,
        Some(4.0..) | None => Severity::Warning,
        Some(_) => Severity::Info,
    };
    let key = text(finding.id).unwrap_or_else(|| key_of(event));
    let title = text(finding.title).or(finding.kind.clone()).unwrap_or_else(|| event.detail_type.clone());
    let mut alert = Alert::new(key, Status::Event, severity, title);
    let count = finding.service.as_ref().and_then(|service| service.count).filter(|count| *count > 1);
    alert.text = lines([finding.description, count.map(|count| format!("Seen {count} times"))]);
    alert.started = finding.service.and_then(|service| service.event_first_seen);
    alert.reason = finding.kind;
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MalwareScan {
    s3_object_details: Option<S3Object>,
    scan_result_details: Option<ScanResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Object {
    bucket_name: Option<String>,
    object_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScanResult {
    scan_result_status: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    threats: Vec<Threat>,
}

#[derive(Deserialize)]
struct Threat {
    name: Option<String>,
}

fn malware_scan(event: &Event<'_>) -> Result<Said, ParseError> {
    let MalwareScan { s3_object_details, scan_result_details } = event.detail()?;
    let (status, threats) =
        scan_result_details.map_or((None, Vec::new()), |result| (result.scan_result_status, result.threats));
    let severity = match status.as_deref() {
        Some("NO_THREATS_FOUND") => return Ok(Err("no threats were found")),
        Some("THREATS_FOUND") => Severity::Error,
        _ => Severity::Warning,
    };
    let place =
        s3_object_details.and_then(|object| Some(format!("s3://{}/{}", object.bucket_name?, object.object_key?)));
    let key = place.clone().unwrap_or_else(|| key_of(event));
    let mut alert = Alert::new(key, Status::Event, severity, "Malware scan of an object in S3");
    let threats: Vec<_> = threats.into_iter().filter_map(|threat| threat.name).collect();
    alert.text = lines([place, Some(threats.join(", "))]);
    alert.reason = status;
    one(alert)
}

#[derive(Deserialize)]
struct HubFindings {
    #[serde(default, deserialize_with = "json::list")]
    findings: Vec<HubFinding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HubFinding {
    id: String,
    title: Option<String>,
    description: Option<String>,
    product_name: Option<String>,
    severity: Option<Label>,
    compliance: Option<StatusOf>,
    workflow: Option<StatusOf>,
    record_state: Option<String>,
    source_url: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    resources: Vec<HubResource>,
    #[serde(default, deserialize_with = "json::time")]
    first_observed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Label {
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StatusOf {
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HubResource {
    id: Option<String>,
}

fn security_hub(event: &Event<'_>) -> Result<Said, ParseError> {
    let HubFindings { findings } = event.detail()?;
    let alerts = findings.into_iter().map(|finding| {
        let status = |of: Option<StatusOf>| of.and_then(|of| of.status).unwrap_or_default();
        let (workflow, compliance) = (status(finding.workflow), status(finding.compliance));
        let over = finding.record_state.as_deref() == Some("ARCHIVED")
            || matches!(workflow.as_str(), "RESOLVED" | "SUPPRESSED")
            || compliance == "PASSED";
        let status = if over { Status::Resolved } else { Status::Firing };
        let severity = finding.severity.and_then(|severity| severity::of(&severity.label?));
        let title = text(finding.title).unwrap_or_else(|| event.detail_type.clone());
        let mut alert = Alert::new(finding.id, status, severity.unwrap_or(Severity::Warning), title);
        let resources: Vec<_> = finding.resources.into_iter().filter_map(|resource| resource.id).collect();
        alert.text = lines([finding.description, Some(resources.join(", "))]);
        alert.reason = text(finding.product_name);
        alert.started = finding.first_observed_at;
        alert.links.extend(link("Remediation", finding.source_url));
        alert
    });
    Ok(Ok(alerts.collect()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InspectorFinding {
    finding_arn: Option<String>,
    severity: Option<String>,
    status: Option<String>,
    title: Option<String>,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    resources: Vec<InspectorResource>,
    package_vulnerability_details: Option<Vulnerability>,
}

#[derive(Deserialize)]
struct InspectorResource {
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vulnerability {
    source_url: Option<String>,
}

fn inspector(event: &Event<'_>) -> Result<Said, ParseError> {
    let finding: InspectorFinding = event.detail()?;
    let status = match finding.status.as_deref() {
        Some("SUPPRESSED") => return Ok(Err("the finding is suppressed")),
        Some("CLOSED") => Status::Resolved,
        _ => Status::Firing,
    };
    let severity = finding.severity.as_deref().and_then(severity::of).unwrap_or(Severity::Info);
    let key = text(finding.finding_arn).unwrap_or_else(|| key_of(event));
    let title = text(finding.title).unwrap_or_else(|| event.detail_type.clone());
    let mut alert = Alert::new(key, status, severity, title);
    let resources: Vec<_> = finding.resources.into_iter().filter_map(|resource| resource.id).collect();
    alert.text = lines([finding.description.map(|text| text.trim().to_owned()), Some(resources.join(", "))]);
    alert.reason = finding.kind;
    alert
        .links
        .extend(link("Vulnerability", finding.package_vulnerability_details.and_then(|details| details.source_url)));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageScan {
    scan_status: Option<String>,
    repository_name: Option<String>,
    image_digest: Option<String>,
    finding_severity_counts: Option<BTreeMap<String, u64>>,
    #[serde(default, deserialize_with = "json::list")]
    image_tags: Vec<String>,
}

fn image_scan(event: &Event<'_>) -> Result<Said, ParseError> {
    let scan: ImageScan = event.detail()?;
    let counts = scan.finding_severity_counts.unwrap_or_default();
    let counts: BTreeMap<_, _> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    let worst = counts.keys().filter_map(|word| severity::of(word)).max();
    let severity = match scan.scan_status.as_deref() {
        Some("FAILED") => Severity::Warning,
        _ => worst.unwrap_or(Severity::Info),
    };
    let repository = scan.repository_name.unwrap_or_default();
    let digest = scan.image_digest.unwrap_or_default();
    let title = format!("Scan of {repository}:{}", scan.image_tags.first().unwrap_or(&digest));
    let mut alert = Alert::new(format!("ECR Image Scan {repository}@{digest}"), Status::Event, severity, title);
    let found: Vec<_> = counts.iter().map(|(word, count)| format!("{word}: {count}")).collect();
    let found = if found.is_empty() { "no findings".into() } else { found.join(", ") };
    alert.text = lines([Some(found), Some(digest)]);
    alert.reason = scan.scan_status;
    alert.object = object("Repository", Some(repository));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    event_arn: Option<String>,
    service: Option<String>,
    event_type_code: Option<String>,
    event_type_category: Option<String>,
    status_code: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
    page: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    event_description: Vec<Description>,
    #[serde(default, deserialize_with = "json::list")]
    affected_entities: Vec<Entity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    language: Option<String>,
    latest_description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entity {
    entity_value: Option<String>,
}

fn health(event: &Event<'_>) -> Result<Said, ParseError> {
    let health: Health = event.detail()?;
    if health.page.as_deref().is_some_and(|page| page != "1") {
        return Ok(Err("a further page of an event that was told with its first"));
    }
    let (severity, lasts) = match health.event_type_category.as_deref() {
        Some("issue") => (Severity::Error, true),
        Some("accountNotification") => (Severity::Info, false),
        _ => (Severity::Warning, true),
    };
    let status = match (health.status_code.as_deref(), lasts) {
        (Some("closed"), _) => Status::Resolved,
        (_, true) => Status::Firing,
        (_, false) => Status::Event,
    };
    let key = text(health.event_arn).unwrap_or_else(|| key_of(event));
    let code = health.event_type_code.unwrap_or_else(|| event.detail_type.clone());
    let mut alert = Alert::new(key, status, severity, code.clone());
    let english = |one: &&Description| one.language.as_deref().is_some_and(|language| language.starts_with("en"));
    let descriptions = &health.event_description;
    let description = descriptions.iter().find(english).or(descriptions.first());
    let entities: Vec<_> = health.affected_entities.into_iter().filter_map(|entity| entity.entity_value).collect();
    let affected = (!entities.is_empty()).then(|| format!("Affected: {}", entities.join(", ")));
    alert.text = lines([description.and_then(|one| one.latest_description.clone()), affected]);
    alert.reason = Some(code);
    alert.labels.extend(health.service.map(|service| ("affected_service".to_owned(), service)));
    let time = |time: Option<String>| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(time?).ok();
    alert.started = time(health.start_time);
    alert.ended = time(health.end_time).filter(|_| status == Status::Resolved);
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pipeline {
    pipeline: Option<String>,
    state: Option<String>,
    stage: Option<String>,
    action: Option<String>,
    execution_result: Option<ExecutionResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ExecutionResult {
    external_execution_summary: Option<String>,
    external_execution_url: Option<String>,
}

fn pipeline(event: &Event<'_>) -> Result<Said, ParseError> {
    let of: Pipeline = event.detail()?;
    let parts = [of.pipeline.clone(), of.stage, of.action];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
    let state = of.state.unwrap_or_default();
    let title = format!("Pipeline {name}: {state}");
    let mut alert = Alert::new(key_at(event, &name), Status::Event, Severity::Info, title);
    match state.as_str() {
        "FAILED" => (alert.status, alert.severity) = (Status::Firing, Severity::Error),
        "SUCCEEDED" => well(&mut alert),
        _ => {}
    }
    let (summary, url) = of
        .execution_result
        .map_or((None, None), |result| (result.external_execution_summary, result.external_execution_url));
    alert.text = text(summary);
    alert.links.extend(link("Execution", url));
    alert.reason = text(Some(state));
    alert.object = object("Pipeline", of.pipeline);
    one(alert)
}

/// The key of what this account calls `name` in this region, of what the event's service has.
fn key_at(event: &Event<'_>, name: &str) -> String {
    let parts = [event.source.as_deref(), event.account.as_deref(), event.region.as_deref(), Some(name)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Build {
    project_name: Option<String>,
    build_status: Option<String>,
    additional_information: Option<BuildInformation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildInformation {
    initiator: Option<String>,
    logs: Option<BuildLogs>,
    #[serde(default, deserialize_with = "json::list")]
    phases: Vec<BuildPhase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildLogs {
    deep_link: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildPhase {
    phase_type: Option<String>,
    phase_status: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    phase_context: Vec<String>,
}

fn build(event: &Event<'_>) -> Result<Said, ParseError> {
    let build: Build = event.detail()?;
    let project = build.project_name.unwrap_or_default();
    let state = build.build_status.unwrap_or_default();
    let mut alert =
        Alert::new(key_at(event, &project), Status::Event, Severity::Info, format!("Build of {project}: {state}"));
    match state.as_str() {
        "FAILED" | "FAULT" | "TIMED_OUT" => (alert.status, alert.severity) = (Status::Firing, Severity::Error),
        "SUCCEEDED" => well(&mut alert),
        _ => {}
    }
    if let Some(information) = build.additional_information {
        let failed = |phase: &BuildPhase| {
            let status = phase.phase_status.as_deref().unwrap_or("SUCCEEDED");
            let said: Vec<_> = phase.phase_context.iter().map(|context| context.trim()).collect();
            let said = said.into_iter().filter(|context| !matches!(*context, "" | ":")).collect::<Vec<_>>().join("; ");
            (status != "SUCCEEDED")
                .then(|| format!("{}: {status} {said}", phase.phase_type.as_deref().unwrap_or("phase")))
        };
        let phases = information.phases.iter().filter_map(failed).map(|line| line.trim_end().to_owned());
        let phases = phases.collect::<Vec<_>>().join("\n");
        alert.text = lines([Some(phases), information.initiator.map(|who| format!("Started by {who}"))]);
        alert.links.extend(link("Logs", information.logs.and_then(|logs| logs.deep_link)));
    }
    alert.reason = text(Some(state));
    alert.object = object("Project", Some(project));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    cluster_arn: Option<String>,
    task_arn: Option<String>,
    group: Option<String>,
    last_status: Option<String>,
    stop_code: Option<String>,
    stopped_reason: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "json::time")]
    stopped_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: Option<String>,
    exit_code: Option<i64>,
    reason: Option<String>,
}

fn task(event: &Event<'_>) -> Result<Said, ParseError> {
    let task: Task = event.detail()?;
    if task.last_status.as_deref() != Some("STOPPED") {
        return Ok(Err("the task has not stopped"));
    }
    let failed = task.containers.iter().any(|container| container.exit_code.is_none_or(|code| code != 0));
    let severity = match task.stop_code.as_deref() {
        // Who stops a task on purpose ends its containers by signals, which shows in their exit codes.
        Some("UserInitiated" | "ServiceSchedulerInitiated") => Severity::Info,
        Some("SpotInterruption" | "TerminationNotice") => Severity::Warning,
        Some("TaskFailedToStart") => Severity::Error,
        _ if failed => Severity::Error,
        _ => Severity::Info,
    };
    let key = text(task.task_arn).unwrap_or_else(|| key_of(event));
    let group = task.group.unwrap_or_else(|| "a task".into());
    let mut alert = Alert::new(key, Status::Event, severity, format!("ECS task of {group} stopped"));
    let containers = task.containers.into_iter().filter_map(|container| {
        let code = container.exit_code.map(|code| format!("exit code {code}"));
        let said = [code, text(container.reason)].into_iter().flatten().collect::<Vec<_>>().join(", ");
        Some(format!("{}: {said}", container.name?)).filter(|_| !said.is_empty())
    });
    alert.text = lines([task.stopped_reason, Some(containers.collect::<Vec<_>>().join("\n"))]);
    alert.reason = text(task.stop_code);
    alert.object = object("Task", Some(group));
    alert.cluster = task.cluster_arn.and_then(|arn| Arn::parse(&arn).map(|arn| arn.name().to_owned()));
    alert.ended = task.stopped_at;
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deployment {
    event_name: Option<String>,
    reason: Option<String>,
    deployment_id: Option<String>,
}

fn deployment(event: &Event<'_>) -> Result<Said, ParseError> {
    let of: Deployment = event.detail()?;
    let service = event.resources.first().and_then(|arn| Arn::parse(arn)).map(|arn| arn.name().to_owned());
    let state = of.event_name.unwrap_or_default();
    let title = format!("ECS deployment of {}: {state}", service.as_deref().unwrap_or("a service"));
    let mut alert = Alert::new(key_of(event), Status::Event, Severity::Info, title);
    match state.as_str() {
        "SERVICE_DEPLOYMENT_FAILED" => (alert.status, alert.severity) = (Status::Firing, Severity::Error),
        "SERVICE_DEPLOYMENT_COMPLETED" => well(&mut alert),
        _ => {}
    }
    alert.text = lines([of.reason, of.deployment_id]);
    alert.reason = text(Some(state));
    alert.object = object("Service", service);
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Spot {
    instance_id: Option<String>,
    instance_action: Option<String>,
}

fn spot(event: &Event<'_>) -> Result<Said, ParseError> {
    let Spot { instance_id, instance_action } = event.detail()?;
    let id = instance_id.unwrap_or_default();
    let title = format!("Spot instance {id} will be interrupted");
    let mut alert = Alert::new(key_at(event, &id), Status::Event, Severity::Warning, title);
    alert.reason = text(instance_action);
    alert.object = object("Instance", Some(id));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scaling {
    auto_scaling_group_name: Option<String>,
    status_code: Option<String>,
    status_message: Option<String>,
    cause: Option<String>,
}

fn auto_scaling(event: &Event<'_>) -> Result<Said, ParseError> {
    let of: Scaling = event.detail()?;
    let group = of.auto_scaling_group_name.unwrap_or_default();
    let title = format!("{}: {group}", event.detail_type);
    let key = format!("{} {}", event.detail_type, key_at(event, &group));
    let mut alert = Alert::new(key, Status::Event, Severity::Error, title);
    alert.text = lines([of.status_message, of.cause]);
    alert.reason = text(of.status_code);
    alert.object = object("AutoScalingGroup", Some(group));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Database {
    #[serde(default, deserialize_with = "json::list")]
    event_categories: Vec<String>,
    source_arn: Option<String>,
    source_identifier: Option<String>,
    message: Option<String>,
    #[serde(rename = "EventID")]
    event_id: Option<String>,
}

fn database(event: &Event<'_>) -> Result<Said, ParseError> {
    let of: Database = event.detail()?;
    let severity = |category: &String| match category.as_str() {
        "failure" | "low storage" => Severity::Error,
        "failover" | "availability" | "recovery" | "maintenance" => Severity::Warning,
        _ => Severity::Info,
    };
    let severity = of.event_categories.iter().map(severity).max().unwrap_or(Severity::Info);
    let name = of.source_identifier.unwrap_or_default();
    let what = text(of.event_id.clone()).unwrap_or_default();
    let key = [of.source_arn.as_deref().unwrap_or(&name), &what].join(" ");
    let title = text(of.message).unwrap_or_else(|| event.detail_type.clone());
    let mut alert = Alert::new(key.trim(), Status::Event, severity, format!("{name}: {title}"));
    alert.text = lines([(!of.event_categories.is_empty()).then(|| of.event_categories.join(", "))]);
    alert.reason = text(of.event_id);
    alert.object = object("Database", Some(name));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Backup {
    // Backup jobs have a state; copy jobs, too; restore jobs have a status.
    #[serde(alias = "status")]
    state: Option<String>,
    resource_arn: Option<String>,
    resource_type: Option<String>,
    status_message: Option<String>,
}

fn backup(event: &Event<'_>) -> Result<Said, ParseError> {
    let of: Backup = event.detail()?;
    let state = of.state.unwrap_or_default();
    let job = event.detail_type.trim_end_matches(" State Change");
    let resource = text(of.resource_arn).or_else(|| event.resources.first().cloned()).unwrap_or_default();
    let name = Arn::parse(&resource).map_or(resource.as_str(), |arn| arn.resource).to_owned();
    let title = format!("{job} of {name}: {state}");
    let mut alert = Alert::new(format!("{job} {resource}"), Status::Event, Severity::Info, title);
    match state.as_str() {
        "FAILED" => (alert.status, alert.severity) = (Status::Firing, Severity::Error),
        "ABORTED" | "EXPIRED" | "PARTIAL" => alert.severity = Severity::Warning,
        "COMPLETED" => well(&mut alert),
        _ => {}
    }
    alert.text = lines([of.status_message, of.resource_type]);
    alert.reason = text(Some(state));
    alert.object = object("Resource", Some(name));
    one(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiCall {
    event_name: Option<String>,
    event_source: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    #[serde(rename = "sourceIPAddress")]
    address: Option<String>,
    user_identity: Option<Identity>,
    #[serde(rename = "eventID")]
    event_id: Option<String>,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "type")]
    kind: Option<String>,
    arn: Option<String>,
}

fn api_call(event: &Event<'_>) -> Result<Said, ParseError> {
    let call: ApiCall = event.detail()?;
    let (kind, arn) = call.user_identity.map_or((None, None), |identity| (identity.kind, identity.arn));
    let severity = match (kind.as_deref(), &call.error_code) {
        (Some("Root"), _) | (_, Some(_)) => Severity::Warning,
        _ => Severity::Info,
    };
    let name = call.event_name.unwrap_or_else(|| event.detail_type.clone());
    let key = text(call.event_id).unwrap_or_else(|| key_of(event));
    let title = match &kind {
        Some(kind) => format!("{name} by {kind}"),
        None => name.clone(),
    };
    let mut alert = Alert::new(key, Status::Event, severity, title);
    let error = [call.error_code, call.error_message].into_iter().flatten().collect::<Vec<_>>().join(": ");
    alert.text = lines([arn, call.address.map(|address| format!("from {address}")), call.event_source, Some(error)]);
    alert.reason = Some(name);
    one(alert)
}

/// A notification of AWS Budgets, which is text for people: `Budget Name: …` and the like stand on lines of their own.
fn budget(envelope: &Envelope) -> Option<Alert> {
    let value = |name: &str| {
        let line = envelope.message.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let (name, kind) = (value("Budget Name")?, value("Alert Type")?);
    let severity = if kind == "ACTUAL" { Severity::Error } else { Severity::Warning };
    let title = text(envelope.subject.clone()).unwrap_or_else(|| format!("AWS Budgets: {name}"));
    let account = envelope.place().0.unwrap_or_default();
    let mut alert = Alert::new(format!("budget {account} {name} {kind}"), Status::Event, severity, title);
    let lines = ["Budgeted Amount", "Alert Threshold", "ACTUAL Amount", "FORECASTED Amount"];
    let lines: Vec<_> = lines.into_iter().filter_map(|name| Some(format!("{name}: {}", value(name)?))).collect();
    alert.text = text(Some(lines.join("\n")));
    alert.reason = Some(kind);
    alert.object = object("Budget", Some(name));
    Some(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Anomaly {
    anomaly_id: String,
    monitor_name: Option<String>,
    anomaly_details_link: Option<String>,
    #[serde(rename = "impact")]
    _impact: serde::de::IgnoredAny,
}

/// A notification of AWS Cost Anomaly Detection.
fn anomaly(envelope: &Envelope) -> Option<Alert> {
    let Anomaly { anomaly_id, monitor_name, anomaly_details_link, .. } =
        serde_json::from_str(&envelope.message).ok()?;
    let title = text(envelope.subject.clone()).unwrap_or_else(|| "AWS Cost Anomaly Detection".into());
    let mut alert = Alert::new(anomaly_id, Status::Event, Severity::Warning, title);
    let details = |line: &String| !line.starts_with("anomalyDetailsLink") && !line.starts_with("anomalyId");
    let found = facts(&envelope.message).unwrap_or_default();
    alert.text = text(Some(found.into_iter().filter(details).collect::<Vec<_>>().join("\n")));
    alert.object = object("CostMonitor", monitor_name);
    alert.links.extend(link("Anomaly", anomaly_details_link));
    Some(alert)
}
