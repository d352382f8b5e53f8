//! Alarms of Amazon CloudWatch, in the three forms in which they are told: by SNS, by EventBridge (`CloudWatch Alarm
//! State Change`), and to a function that is an alarm's action.
//!
//! An alarm is one thing whichever way it comes: its key is its ARN, and a change of its state is told apart by the
//! state and the time of the change, which all forms have. `ALARM` fires with severity `error` (CloudWatch knows none),
//! `OK` is over, and `INSUFFICIENT_DATA`, in which every alarm begins, is an event of severity `info`: nothing is known to
//! be wrong, so that no incident begins, and what fired before is not over. The account's display name of the region (`EU (Ireland)`) is of no use; its code is in the ARN.
//!
//! Only EventBridge tells of changes whose actions a composite alarm's suppressor holds back, and of changed
//! configurations; both are no news. Alarms over several time series tell of each; they share the alarm's key.
//! Source: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring, cloudwatch-and-eventbridge.html,
//! alarms-and-actions-Lambda.html and Notify_Users_Alarm_Changes.html (read 2026-08).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::aws::{self, Arn, AwsKeys, Event, missing};
use super::json::{self, text};
use super::sns::Envelope;
use super::{Found, ParseError, Parsed};
use crate::domain::alert::{Alert, Alerts, Link, Object, Severity, Status};
use crate::domain::event::Detail;

/// EventBridge's word for a change of state.
const STATE_CHANGE: &str = "CloudWatch Alarm State Change";

crate::words! {
    /// The state of an alarm.
    enum State {
        /// The metric is within the threshold.
        Ok = "OK",
        /// It is not.
        Alarm = "ALARM",
        /// There is too little data to say.
        InsufficientData = "INSUFFICIENT_DATA",
    }
}

/// A change of an alarm's state.
#[derive(Debug)]
pub struct Alarm {
    /// What its sender calls this message.
    id: Option<String>,
    arn: String,
    name: String,
    account: Option<String>,
    region: Option<String>,
    state: State,
    description: Option<String>,
    reason: Option<String>,
    time: Option<Timestamp>,
    /// The state before, and since when that was.
    before: Option<(State, Option<Timestamp>)>,
    metric: Option<Metric>,
    /// The alarms that a composite alarm goes by, and that changed.
    children: Vec<String>,
    is_suppressed: bool,
}

/// What an alarm watches. SNS writes its names and dimensions in another form than the others.
#[derive(Debug, Default)]
struct Metric {
    namespace: Option<String>,
    name: Option<String>,
    dimensions: BTreeMap<String, String>,
}

// As EventBridge tells it, and CloudWatch to a function.

#[derive(Deserialize)]
struct StateData {
    value: State,
    reason: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    #[serde(rename = "actionsSuppressedBy")]
    suppressed_by: Option<String>,
}

#[derive(Deserialize)]
struct Before {
    value: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlarmData {
    alarm_name: String,
    state: StateData,
    previous_state: Option<Before>,
    configuration: Option<Configuration>,
}

#[derive(Deserialize)]
struct Configuration {
    description: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    metrics: Vec<Query>,
}

#[derive(Deserialize)]
struct Query {
    #[serde(rename = "metricStat")]
    of: Option<Statistic>,
}

#[derive(Deserialize)]
struct Statistic {
    metric: Option<MetricData>,
}

#[derive(Deserialize)]
struct MetricData {
    namespace: Option<String>,
    name: Option<String>,
    dimensions: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    alarm_arn: Option<String>,
    account_id: Option<String>,
    region: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    time: Option<Timestamp>,
    alarm_data: AlarmData,
}

// As SNS tells it.

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notice {
    alarm_name: String,
    alarm_arn: Option<String>,
    alarm_description: Option<String>,
    #[serde(rename = "AWSAccountId")]
    account: Option<String>,
    new_state_value: State,
    new_state_reason: Option<String>,
    old_state_value: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    state_change_time: Option<Timestamp>,
    trigger: Option<Trigger>,
    #[serde(default, deserialize_with = "json::list")]
    triggering_children: Vec<Child>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trigger {
    #[serde(flatten)]
    metric: NoticeMetric,
    #[serde(default, deserialize_with = "json::list")]
    metrics: Vec<NoticeQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NoticeQuery {
    metric_stat: Option<NoticeStatistic>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NoticeStatistic {
    metric: Option<NoticeMetric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NoticeMetric {
    namespace: Option<String>,
    metric_name: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    dimensions: Vec<Dimension>,
}

#[derive(Deserialize)]
struct Dimension {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    arn: Option<String>,
}

impl From<NoticeMetric> for Metric {
    fn from(metric: NoticeMetric) -> Self {
        let dimensions = metric.dimensions.into_iter().map(|dimension| (dimension.name, dimension.value)).collect();
        Self { namespace: metric.namespace, name: metric.metric_name, dimensions }
    }
}

impl AlarmData {
    /// With what stands outside of it: ARN, account, region, and the message's id and time.
    fn with(
        self,
        arn: Option<String>,
        account: Option<String>,
        region: Option<String>,
        id: Option<String>,
        time: Option<Timestamp>,
    ) -> Result<Alarm, ParseError> {
        let (description, metrics) = self
            .configuration
            .map_or((None, Vec::new()), |configuration| (configuration.description, configuration.metrics));
        let metric = metrics.into_iter().find_map(|query| query.of?.metric);
        Ok(Alarm {
            id,
            arn: arn_of(arn, account.as_deref(), region.as_deref(), &self.alarm_name)?,
            name: self.alarm_name,
            account,
            region,
            state: self.state.value,
            description,
            reason: self.state.reason,
            time: self.state.timestamp.or(time),
            before: self.previous_state.and_then(|before| Some((State::from_word(&before.value?)?, before.timestamp))),
            metric: metric.map(|metric| Metric {
                namespace: metric.namespace,
                name: metric.name,
                dimensions: metric.dimensions.unwrap_or_default(),
            }),
            children: Vec::new(),
            is_suppressed: text(self.state.suppressed_by).is_some(),
        })
    }
}

/// The alarm's ARN, made of its parts where the sender leaves it out.
fn arn_of(arn: Option<String>, account: Option<&str>, region: Option<&str>, name: &str) -> Result<String, ParseError> {
    if let Some(arn) = text(arn) {
        return Ok(arn);
    }
    let (account, region) = (account.ok_or_else(|| missing("account"))?, region.ok_or_else(|| missing("region"))?);
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    Ok(format!("arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}"))
}

impl Alarm {
    /// The change of state that an event tells of.
    ///
    /// # Errors
    /// `Ok(Err(…))` says why there is none in it.
    pub fn of_event(event: &Event<'_>) -> Result<Result<Self, &'static str>, ParseError> {
        match event.detail_type.as_str() {
            STATE_CHANGE => {}
            "CloudWatch Alarm Configuration Change" => {
                return Ok(Err("an alarm was made, changed or deleted; its state did not change"));
            }
            _ => return Ok(Err("not a change of an alarm's state")),
        }
        let data: AlarmData = event.detail()?;
        let arn = event.resources.first().cloned();
        let (account, region, id) = (event.account.clone(), event.region.clone(), event.id.clone());
        data.with(arn, account, region, id, event.time).map(Ok)
    }

    /// The change of state that CloudWatch tells a function of.
    pub fn of_action(body: &[u8]) -> Result<Self, ParseError> {
        let Action { alarm_arn, account_id, region, time, alarm_data } = json::read(body)?;
        alarm_data.with(alarm_arn, account_id, region, None, time)
    }

    /// The change of state in a message; `None` where it tells of something else.
    pub fn of_notice(envelope: &Envelope) -> Result<Option<Self>, ParseError> {
        #[derive(Deserialize)]
        struct Signs {
            #[serde(rename = "AlarmName")]
            _name: serde::de::IgnoredAny,
            #[serde(rename = "NewStateValue")]
            _state: serde::de::IgnoredAny,
        }
        if serde_json::from_str::<Signs>(&envelope.message).is_err() {
            return Ok(None);
        }
        let notice: Notice = json::read_part(&envelope.message, "Message")?;
        let (topic_account, region) = envelope.place();
        let account = text(notice.account).or(topic_account.map(str::to_owned));
        let arn = arn_of(notice.alarm_arn, account.as_deref(), region, &notice.alarm_name)?;
        let region = Arn::parse(&arn).map(|arn| arn.region).or(region).map(str::to_owned);
        let metric = notice.trigger.map(|trigger| {
            let of_query = trigger.metrics.into_iter().find_map(|query| query.metric_stat?.metric);
            Metric::from(of_query.unwrap_or(trigger.metric))
        });
        Ok(Some(Self {
            id: Some(envelope.message_id.clone()),
            arn,
            name: notice.alarm_name,
            account,
            region,
            state: notice.new_state_value,
            description: notice.alarm_description,
            reason: notice.new_state_reason,
            time: notice.state_change_time.or(envelope.time()),
            before: notice.old_state_value.and_then(|state| Some((State::from_word(&state)?, None))),
            metric,
            children: notice.triggering_children.into_iter().filter_map(|child| child.arn).collect(),
            is_suppressed: false,
        }))
    }

    /// The alarm as an event, if it is of an account and region that `keys` take.
    pub fn into_parsed(self, keys: &AwsKeys) -> Parsed {
        let summary = format!("{STATE_CHANGE} {} {}", self.name, self.state);
        let delivery_id = self.id.clone();
        let parsed = if !keys.takes(self.account.as_deref(), self.region.as_deref()) {
            Parsed::ignored(summary, aws::ELSEWHERE)
        } else if self.is_suppressed {
            Parsed::ignored(summary, "the alarm's actions are suppressed")
        } else {
            let time = self.time;
            // Without a time two changes to one state would look the same.
            let identity = time.map(|time| format!("{} {} {time}", self.arn, self.state)).or(self.id.clone());
            let detail = Detail::Alert(Box::new(Alerts::one(self.into_alert())));
            Parsed::events(summary, vec![Found { identity, detail, time }])
        };
        Parsed { delivery_id, ..parsed }
    }

    fn into_alert(self) -> Alert {
        let (status, severity) = match self.state {
            State::Alarm => (Status::Firing, Severity::Error),
            State::Ok => (Status::Resolved, Severity::Error),
            State::InsufficientData => (Status::Event, Severity::Info),
        };
        let mut alert = Alert::new(self.arn, status, severity, self.name.clone());
        match (self.state, self.before) {
            (State::Alarm, _) => alert.started = self.time,
            (State::Ok, Some((State::Alarm, since))) => (alert.started, alert.ended) = (since, self.time),
            (State::Ok, _) => alert.ended = self.time,
            (State::InsufficientData, _) => {}
        }
        let children: Vec<_> = self
            .children
            .iter()
            .filter_map(|arn| Arn::parse(arn)?.resource.strip_prefix("alarm:").map(str::to_owned))
            .collect();
        let children = (!children.is_empty()).then(|| format!("Alarms that changed: {}", children.join(", ")));
        let lines: Vec<_> = [text(self.description), text(self.reason), children].into_iter().flatten().collect();
        alert.text = text(Some(lines.join("\n")));
        alert.reason = Some(self.state.to_string());
        alert.object = Some(Object { kind: Some("Alarm".into()), namespace: None, name: self.name.clone() });
        let metric = self.metric.unwrap_or_default();
        alert.labels = metric.dimensions;
        let labels = [("namespace", metric.namespace), ("metric", metric.name), ("account", self.account)];
        let labels = labels.into_iter().chain([("region", self.region.clone())]);
        alert.labels.extend(labels.filter_map(|(name, value)| Some((name.to_owned(), text(value)?))));
        if let Some(region) = &self.region {
            let name: String = form_urlencoded::byte_serialize(self.name.as_bytes()).collect();
            let name = name.replace('+', "%20");
            let url = format!("https://{}/cloudwatch/home?region={region}#alarmsV2:alarm/{name}", aws::console(region));
            alert.links.push(Link { title: "Alarm".into(), url });
        }
        alert
    }
}
