//! An example of the module, applied as a user applies it, and what came of it in the emulated cloud.
//!
//! Nothing here knows what the module makes: functions, routes, rules, triggers and policies are read back out of the
//! cloud, by boto, and what runs is the code that was deployed. Functions sign with an access key that is their role's name,
//! so that the cloud can tell who made which call.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use serde_json::{Value, json};
use sluice::domain::secret::Secret;
use sluice::domain::signature;
use sluice::rim::aws::{Sdk, from_variables};
use sluice::rim::{config, yaml};
use tempfile::TempDir;

use super::lambda::{Function, HttpAnswer, HttpEvent, batch_item_failures, binary, sqs_event};
use super::moto::Moto;
use super::needles::Needles;
use super::receiver::webhook_path;

/// Where the examples deploy to if nothing is said.
pub const REGION: &str = "eu-central-1";
const FUNCTIONS: [&str; 5] = ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"];
/// The file with the second plan: a zip, in which texts are as they are.
const PLAN: &str = "second.plan";
/// How long deliveries may take to come to an end, waits between attempts included.
const PATIENCE: Duration = Duration::from_secs(90);

/// What to list before and after: all kinds of things that the module and its examples make.
const LISTS: [(&str, &str, &str); 19] = [
    (REGION, "lambda", "list_functions"),
    (REGION, "lambda", "list_event_source_mappings"),
    (REGION, "sqs", "list_queues"),
    (REGION, "ssm", "describe_parameters"),
    (REGION, "dynamodb", "list_tables"),
    (REGION, "iam", "list_roles"),
    (REGION, "apigatewayv2", "get_apis"),
    (REGION, "events", "list_rules"),
    (REGION, "scheduler", "list_schedules"),
    (REGION, "logs", "describe_log_groups"),
    (REGION, "logs", "describe_metric_filters"),
    (REGION, "cloudwatch", "describe_alarms"),
    (REGION, "cloudwatch", "list_dashboards"),
    (REGION, "sns", "list_topics"),
    (REGION, "ec2", "describe_vpcs"),
    (REGION, "ec2", "describe_security_groups"),
    (REGION, "ec2", "describe_vpc_endpoints"),
    ("us-east-1", "events", "list_rules"),
    ("us-east-1", "sqs", "list_queues"),
];

/// `tofu`, else `terraform`, else nothing, of which a message tells.
pub fn program() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("version").output().is_ok_and(|ran| ran.status.success());
    let found = ["tofu", "terraform"].into_iter().find(runs);
    if found.is_none() {
        // Not by `eprintln!`, whose output nobody sees of a test that passes.
        let said = "\nSKIPPED: there is neither tofu nor terraform; the module was NOT applied\n\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error");
    }
    found
}

/// A deployment in a cloud of its own.
pub struct Deployed {
    program: &'static str,
    moto: Moto,
    folder: TempDir,
    example: PathBuf,
    /// What was there before.
    before: Value,
    sdk: Sdk,
    sqs: aws_sdk_sqs::Client,
    /// Configurations by name.
    pub functions: BTreeMap<String, Value>,
    /// Functions by route.
    routes: BTreeMap<String, String>,
    /// Patterns of events, and the functions that get those.
    rules: Vec<(Value, String)>,
    /// Functions by the ARN of the queue whose messages they get.
    triggers: BTreeMap<String, String>,
    running: tokio::sync::Mutex<BTreeMap<String, Arc<Function>>>,
}

impl Deployed {
    /// Applies an example with no variable set. All that differs from what a user has: in the relay file, `instead` has what
    /// stands for what, such as where the test's own receivers listen, and these may be on this machine.
    ///
    /// The zips hold this machine's binaries. That the examples deploy for arm64 the emulated cloud takes no notice of;
    /// what is built for that is tried in tests/arm64.rs.
    pub async fn apply(program: &'static str, example: &str, instead: &[(&str, &str)]) -> Self {
        let moto = Moto::start();
        let folder = tempfile::tempdir().expect("folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&root.join("infra"), &folder.path().join("infra"));
        fs::create_dir(folder.path().join("target")).expect("folder");
        std::os::unix::fs::symlink(zips(), folder.path().join("target/lambda")).expect("link");
        let example = folder.path().join("infra/examples").join(example);
        let path = example.join("relay.yaml");
        let mut relay = fs::read_to_string(&path).expect("relay file");
        for (text, other) in instead {
            assert!(relay.contains(text), "the relay file has no {text}");
            relay = relay.replace(text, other);
        }
        relay += "egress: { allow: [127.0.0.0/8] }\n";
        fs::write(&path, relay).expect("relay file");

        let url = moto.url();
        let sdk = from_variables(move |name| match name {
            "AWS_REGION" => Some(REGION.into()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".into()),
            "AWS_ENDPOINT_URL" => Some(url.clone()),
            _ => None,
        });
        let mut deployed = Self {
            program,
            moto,
            folder,
            example,
            before: Value::Null,
            sqs: aws_sdk_sqs::Client::new(sdk.config()),
            sdk,
            functions: BTreeMap::new(),
            routes: BTreeMap::new(),
            rules: Vec::new(),
            triggers: BTreeMap::new(),
            running: tokio::sync::Mutex::default(),
        };
        deployed.before = deployed.listed();
        {
            // One after the other: they share the folder where providers are kept that come from a registry.
            static INIT: Mutex<()> = Mutex::new(());
            let _one = INIT.lock().unwrap_or_else(PoisonError::into_inner);
            deployed.run(&["init", "-input=false", "-no-color"]);
        }
        deployed.apply_again().await;
        deployed
    }

    /// Applies once what the files say by now. Functions start anew.
    pub async fn apply_again(&mut self) {
        self.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        self.running.lock().await.clear();
        self.read_back();
    }

    /// Writes the relay file anew.
    pub fn edit_relay_file(&self, edit: impl FnOnce(String) -> String) {
        let path = self.example.join("relay.yaml");
        let relay = fs::read_to_string(&path).expect("relay file");
        fs::write(path, edit(relay)).expect("relay file");
    }

    /// Puts a zip of its own in the place of a function's, with the same program in it.
    pub fn change_zip(&self, name: &str) {
        let shared = self.folder.path().join("target/lambda");
        if shared.is_symlink() {
            fs::remove_file(&shared).expect("link");
            copy(zips(), &shared);
        }
        let file = fs::OpenOptions::new().append(true).open(shared.join(name).join("bootstrap.zip"));
        // Behind the directory at its end, where readers of zips take no notice.
        file.expect("zip").write_all(b"changed").expect("written");
    }

    /// Runs the program in the example's folder; what it printed.
    fn run(&self, arguments: &[&str]) -> String {
        // By terraform's rule, a folder that is there.
        let providers = Path::new(env!("CARGO_TARGET_TMPDIR")).join("providers");
        fs::create_dir_all(&providers).expect("folder");
        let ran = Command::new(self.program)
            .args(arguments)
            .current_dir(&self.example)
            .envs(self.environment("terraform"))
            .env("TF_PLUGIN_CACHE_DIR", providers)
            .env("TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .output();
        text(ran.expect("it can be run"), arguments[0])
    }

    /// What leads an AWS SDK here, as a user whom the cloud knows by `key`.
    fn environment(&self, key: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.moto.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// The answers to calls in [`REGION`].
    pub fn ask(&self, calls: &[(&str, &str, Value)]) -> Vec<Value> {
        let calls = calls.iter().map(|(service, operation, arguments)| json!([REGION, service, operation, arguments]));
        self.ask_anywhere(calls.collect())
    }

    fn ask_anywhere(&self, calls: Vec<Value>) -> Vec<Value> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/boto.py");
        let mut command = python();
        command.arg(script).envs(self.environment("test"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Python can be run");
        let input = Value::from(calls).to_string();
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        let output = text(child.wait_with_output().expect("it ends"), "boto.py");
        serde_json::from_str(&output).expect("answers")
    }

    fn listed(&self) -> Value {
        let calls = LISTS.map(|(region, service, operation)| json!([region, service, operation, {}]));
        let mut answers = self.ask_anywhere(calls.to_vec());
        // These are listed for a while after they were deleted, by AWS as well.
        for endpoints in answers.iter_mut().filter_map(|answer| answer["VpcEndpoints"].as_array_mut()) {
            endpoints.retain(|endpoint| endpoint["State"] != "deleted");
        }
        LISTS.iter().zip(answers).map(|(list, answer)| (format!("{list:?}"), answer)).collect()
    }

    fn read_back(&mut self) {
        let asked = self.ask(&[
            ("lambda", "list_functions", json!({})),
            ("lambda", "list_event_source_mappings", json!({})),
            ("apigatewayv2", "get_apis", json!({})),
            ("events", "list_rules", json!({})),
        ]);
        let [functions, triggers, apis, rules] = &asked[..] else { panic!("four answers") };
        self.functions = list(functions, "Functions")
            .iter()
            .map(|function| (word(function, "FunctionName"), function.clone()))
            .collect();
        for trigger in list(triggers, "EventSourceMappings") {
            assert_eq!(trigger["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "or a failure is of all");
            self.triggers.insert(word(trigger, "EventSourceArn"), function_of(&trigger["FunctionArn"]));
        }
        let [api] = list(apis, "Items") else { panic!("one API") };
        let api = json!({ "ApiId": api["ApiId"] });
        let mut calls = vec![("apigatewayv2", "get_routes", api.clone()), ("apigatewayv2", "get_integrations", api)];
        let rules = list(rules, "Rules");
        calls.extend(rules.iter().map(|rule| ("events", "list_targets_by_rule", json!({ "Rule": rule["Name"] }))));
        let asked = self.ask(&calls);
        let [routes, integrations, targets @ ..] = &asked[..] else { panic!("two answers and more") };
        self.routes.clear();
        for route in list(routes, "Items") {
            assert_eq!(route["AuthorizationType"], "NONE");
            let own = |one: &&Value| route["Target"] == format!("integrations/{}", word(one, "IntegrationId"));
            let integration = list(integrations, "Items").iter().find(own).expect("the route's integration");
            assert_eq!(integration["PayloadFormatVersion"], "2.0");
            self.routes.insert(word(route, "RouteKey"), function_of(&integration["IntegrationUri"]));
        }
        self.rules.clear();
        for (rule, targets) in rules.iter().zip(targets) {
            let [target] = list(targets, "Targets") else { panic!("one target of {rule}") };
            let pattern = serde_json::from_str(&word(rule, "EventPattern")).expect("a pattern");
            self.rules.push((pattern, function_of(&target["Arn"])));
        }
    }

    /// The value of a secret in Parameter Store.
    pub fn parameter(&self, name: &str) -> String {
        let answer = self.ask(&[("ssm", "get_parameter", json!({ "Name": name, "WithDecryption": true }))]);
        word(&answer[0]["Parameter"], "Value")
    }

    /// Stores what a user has to store.
    pub fn store_parameter(&self, name: &str, value: &str) {
        self.ask(&[("ssm", "put_parameter", json!({ "Name": name, "Value": value, "Type": "SecureString" }))]);
    }

    /// An output, as JSON.
    pub fn output(&self, name: &str) -> Value {
        serde_json::from_str(&self.run(&["output", "-json", name])).expect("JSON")
    }

    /// A function as it is deployed: its code, its environment and its limits, in the one environment that it has here.
    pub async fn function(&self, name: &str) -> Arc<Function> {
        let mut running = self.running.lock().await;
        if let Some(function) = running.get(name) {
            return function.clone();
        }
        let deployed = self.functions.get(name).unwrap_or_else(|| panic!("no function {name} is deployed"));
        assert_eq!((&deployed["Runtime"], &deployed["Handler"]), (&json!("provided.al2023"), &json!("bootstrap")));
        let number = |key: &str| deployed[key].as_u64().and_then(|number| u32::try_from(number).ok()).expect("number");
        let settings = Function::builder(self.unpacked(name))
            .name(name)
            .memory(number("MemorySize"))
            .timeout(Duration::from_secs(number("Timeout").into()))
            .envs(
                deployed["Environment"]["Variables"]
                    .as_object()
                    .expect("variables")
                    .iter()
                    .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())),
            )
            .envs(self.environment(&role_of(&deployed["Role"])))
            .env("AWS_LAMBDA_LOG_FORMAT", word(&deployed["LoggingConfig"], "LogFormat"))
            .env("AWS_LAMBDA_LOG_LEVEL", word(&deployed["LoggingConfig"], "ApplicationLogLevel"))
            .env("NO_PROXY", "127.0.0.1");
        let function = Arc::new(settings.start().await.unwrap_or_else(|error| panic!("{name}: {error}")));
        running.insert(name.to_owned(), function.clone());
        function
    }

    /// Starts every function that is deployed.
    pub async fn start_all(&self) {
        for name in self.functions.keys() {
            self.function(name).await;
        }
    }

    /// The program in a function's zip.
    fn unpacked(&self, name: &str) -> PathBuf {
        let zip = self.folder.path().join(format!("{name}.zip"));
        fs::write(&zip, self.moto.get(&format!("/sluice/code/{REGION}/{name}"))).expect("zip");
        let folder = self.folder.path().join(name);
        unzip(&zip, &folder);
        let bootstrap = folder.join("bootstrap");
        // Python does not restore modes.
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).expect("mode");
        bootstrap
    }

    /// A request at the front door: API Gateway picks the route, and the route's function answers.
    pub async fn request(&self, event: HttpEvent) -> HttpAnswer {
        let key = match word(&event.to_value(), "rawPath").split('/').skip(1).collect::<Vec<_>>()[..] {
            [source] => format!("ANY /{source}"),
            [source, _] => format!("ANY /{source}/{{token}}"),
            _ => String::new(),
        };
        let key = if self.routes.contains_key(&key) { key.as_str() } else { "$default" };
        let function = self.function(&self.routes[key]).await;
        function.http(event.route(key)).await.expect("an answer")
    }

    /// An event on the account's bus: each rule that it matches invokes its function, whose answers these are.
    pub async fn event(&self, event: &Value) -> Vec<Value> {
        let mut answers = Vec::new();
        for (pattern, function) in &self.rules {
            if matches(pattern, event) {
                answers.push(self.function(function).await.invoke(event.clone()).await.expect("taken"));
            }
        }
        answers
    }

    /// Works as Lambda's triggers do until all queues that have one are empty.
    pub async fn deliver(&self) {
        let worked = async {
            for (queue, function) in &self.triggers {
                let queue = self.queue(queue.rsplit(':').next().expect("a name")).await;
                while self.left(&queue).await > 0 {
                    let messages = self.receive(&queue).await;
                    if !messages.is_empty() {
                        let event = sqs_event(&super::lambda::queue_arn(&queue, REGION), &messages);
                        let answer = self.function(function).await.invoke(event).await.expect("the batch is worked on");
                        batch_item_failures(&answer);
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, worked).await.expect("deliveries come to an end in time");
    }

    pub async fn queue(&self, name: &str) -> String {
        let answer = self.sqs.get_queue_url().queue_name(name).send().await.expect("the queue is there");
        answer.queue_url.expect("url")
    }

    /// What is in a queue, and not hidden.
    pub async fn receive(&self, queue: &str) -> Vec<Message> {
        let call = self.sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(1);
        let call = call.message_system_attribute_names(MessageSystemAttributeName::All);
        call.send().await.expect("received").messages.unwrap_or_default()
    }

    /// How many messages a queue holds, hidden ones included.
    pub async fn left(&self, queue: &str) -> u32 {
        let call = self.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::All);
        let attributes = call.send().await.expect("attributes").attributes.expect("attributes");
        let number = |name: QueueAttributeName| attributes[&name].parse::<u32>().expect("number");
        number(QueueAttributeName::ApproximateNumberOfMessages)
            + number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }

    /// Runs `sluice agent` with the environment and the relay file that the module's output has for it, and the role's name
    /// as its key, while `work` goes on.
    pub async fn with_agent<T>(&self, agent: &str, work: impl Future<Output = T>) -> T {
        let output = &self.output("agents")[agent];
        let environment = output["environment"].as_object().expect("environment").iter();
        let relay = self.folder.path().join("agent.yaml");
        fs::write(&relay, word(output, "relay_file")).expect("relay file");
        let mut command = tokio::process::Command::new(binary("sluice"));
        command
            .args(["agent", "--name", agent, "--listen", "127.0.0.1:0"])
            .env_clear()
            .envs(environment.map(|(name, value)| (name, value.as_str().expect("text"))))
            .env("SLUICE_CONFIG", format!("file:{}", relay.display()))
            .envs(self.environment(&role_of(&output["role_arn"])))
            .env("NO_PROXY", "127.0.0.1")
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the agent can be run");
        let done = tokio::time::timeout(PATIENCE, work).await.expect("the agent's work is done in time");
        assert!(child.try_wait().expect("it can be asked").is_none(), "the agent ended by itself");
        done
    }

    /// A second plan finds nothing to do.
    pub fn assert_a_second_plan_is_empty(&self) {
        let plan = self.run(&["plan", "-input=false", "-no-color", &format!("-out={PLAN}")]);
        assert!(plan.contains("No changes. Your infrastructure matches the configuration."), "{plan}");
    }

    /// Of all that was made nothing is left but the `users` parameters: those that a user stored.
    pub fn assert_destroy_leaves_nothing_but(&self, users: &[&str]) {
        let made = self.listed();
        let (before, made) = (self.before.as_object().expect("lists"), made.as_object().expect("lists"));
        let changed = before.iter().filter(|(name, list)| made[*name] != **list).count();
        assert!(changed >= 12, "what is listed is not what is made: {changed} lists changed");
        self.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
        for name in users {
            // An error if it is not there.
            self.ask(&[("ssm", "delete_parameter", json!({ "Name": name }))]);
        }
        let after = self.listed();
        for (name, list) in before {
            assert_eq!(&after[name], list, "{name}");
        }
    }

    /// No secret in Parameter Store, and nothing that follows from one, is in the state, in the second plan, which has to
    /// be there, in what is deployed, in what the functions have logged, or in what anybody has queued, kept or asked of
    /// the cloud in a role's name.
    pub async fn assert_no_secret_is_told(&self) {
        let needles = self.needles();
        // With what has to be found where something is in any case: other roles and functions may have had nothing to do.
        let state = fs::read(self.example.join("terraform.tfstate")).expect("the state");
        let mut places = vec![
            ("what is deployed".to_owned(), json!(self.functions).to_string().into(), Some("SLUICE_CONFIG")),
            ("the relay files".to_owned(), json!(self.relay_files().await).to_string().into(), Some("127.0.0.0/8")),
            ("the state".to_owned(), state, Some("sluice-deliver")),
        ];
        let folder = self.folder.path().join("plan");
        unzip(&self.example.join(PLAN), &folder);
        let files = fs::read_dir(&folder).expect("folder").map(|entry| entry.expect("entry").path());
        let files = files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).expect("a file"));
        places.push(("the plan".to_owned(), files.collect(), Some("sluice-deliver")));
        let roles = self.ask(&[("iam", "list_roles", json!({}))]);
        for role in list(&roles[0], "Roles").iter().map(|role| word(role, "RoleName")) {
            let calls = self.moto.get(&format!("/sluice/calls/{role}"));
            places.push((format!("the calls of {role}"), calls, None));
        }
        for (name, function) in &*self.running.lock().await {
            places.push((format!("the log of {name}"), function.output().await.into(), None));
        }
        for (place, text, planted) in places {
            if let Some(planted) = planted {
                Needles::assert_finds(planted, &place, &text);
            }
            needles.assert_none_in(&place, &text);
        }
    }

    /// The secrets in Parameter Store, and the URL tokens and Receivers' paths that could follow from them.
    fn needles(&self) -> Needles {
        let relay = fs::read_to_string(self.example.join("relay.yaml")).expect("relay file");
        let relay = yaml::parse(&relay).expect("YAML").value;
        let parameters = self.ask(&[("ssm", "describe_parameters", json!({}))]);
        let secrets = list(&parameters[0], "Parameters").iter().filter(|one| one["Type"] == "SecureString");
        let named = |one: &Value| ("ssm", "get_parameter", json!({ "Name": one["Name"], "WithDecryption": true }));
        let secrets = self.ask(&secrets.map(named).collect::<Vec<_>>());
        assert!(!secrets.is_empty(), "no secret is stored");
        let mut needles = Needles::default();
        for parameter in secrets.iter().map(|answer| &answer["Parameter"]) {
            let (name, value) = (word(parameter, "Name"), word(parameter, "Value"));
            // Of a webhook's URL, its path: the host is no secret.
            let path = value.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
            needles.secret(&name, path.map_or(&*value, |(_, path)| path));
            let secret = Secret::new(value.clone());
            for source in relay["sources"].as_object().expect("sources").keys() {
                needles.exactly("a URL token", &signature::url_token(&secret, source));
            }
            for receiver in relay["targets"].as_object().expect("targets").values().map(|target| &target["receiver"]) {
                if receiver.is_object() {
                    let path = webhook_path(value.as_bytes(), &word(receiver, "name"), &word(receiver, "namespace"));
                    needles.exactly("a Receiver's path", path.trim_start_matches("/hook/"));
                }
            }
        }
        needles
    }

    /// The relay file of each function, which its environment has or names.
    pub async fn relay_files(&self) -> BTreeMap<&str, Value> {
        let mut files = BTreeMap::new();
        for (name, function) in &self.functions {
            let place = word(&function["Environment"]["Variables"], "SLUICE_CONFIG");
            let text =
                config::text(&place, &self.sdk.secrets()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            files.insert(name.as_str(), serde_json::from_str(&text).expect("JSON"));
        }
        files
    }

    /// Every call that was made in a role's name is allowed by its policy; and every action on every resource that
    /// policies allow was made use of, but for what Lambda does in the function's name and what is `unused`, given by
    /// role and statement. Roles are given as the module has them, without the region behind their names.
    ///
    /// A function without its own sources or targets never does what its statements are for: roles that are not in
    /// `working` have at most read the relay file.
    pub fn assert_rights_are_enough_and_no_more(&self, working: &[&str], unused: &[(&str, &str, &str)]) {
        let roles = self.ask(&[("iam", "list_roles", json!({}))]);
        let names: Vec<_> = list(&roles[0], "Roles").iter().map(|role| word(role, "RoleName")).collect();
        let named = |name: &String| json!({ "RoleName": name, "PolicyName": "sluice" });
        let calls: Vec<_> = names.iter().map(|name| ("iam", "get_role_policy", named(name))).collect();
        let mut left = BTreeSet::new();
        for (role, answer) in names.iter().zip(self.ask(&calls)) {
            let calls: Value = serde_json::from_slice(&self.moto.get(&format!("/sluice/calls/{role}"))).expect("JSON");
            let calls: Vec<_> = calls.as_array().expect("calls").iter().flat_map(Call::of).collect();
            let statements = list(&answer["PolicyDocument"], "Statement");
            let role = role.strip_suffix(&format!("-{REGION}")).unwrap_or(role);
            let function = self.functions.get(role);
            // What reads it is a function whose relay file is too large for its environment.
            let reads_relay_file = function.is_some_and(|function| {
                word(&function["Environment"]["Variables"], "SLUICE_CONFIG").starts_with("ssm:")
            });
            for call in &calls {
                assert!(statements.iter().any(|statement| call.is_allowed_by(statement)), "{role} may not {call:?}");
            }
            for statement in statements {
                let sid = word(statement, "Sid");
                let is_used = |action: &Value, resource: &Value| {
                    calls.iter().any(|call| {
                        call.action == *action && fits(resource, &call.resource) && call.is_allowed_by(statement)
                    })
                };
                let is_due = match sid.as_str() {
                    sid if BY_LAMBDA.contains(&sid) => false,
                    "ReadRelayFile" => reads_relay_file,
                    _ => working.contains(&role),
                };
                for action in list(statement, "Action").iter().filter(|_| is_due) {
                    let idle = list(statement, "Resource").iter().filter(|resource| !is_used(action, resource));
                    left.extend(
                        idle.map(|_| (role.to_owned(), sid.clone(), action.as_str().expect("action").to_owned())),
                    );
                }
            }
        }
        let unused = unused.iter().map(|(role, sid, action)| ((*role).into(), (*sid).into(), (*action).into()));
        assert_eq!(left, unused.collect());
    }
}

/// Statements for what Lambda does in a function's name: writing its log, polling its queue, reporting its failed
/// invocations, and joining a network.
const BY_LAMBDA: [&str; 4] = ["WriteLog", "TakeDeliveries", "ReportFailedInvocations", "JoinNetwork"];

/// One action on one resource, as policies name them.
#[derive(Debug)]
struct Call {
    action: String,
    resource: String,
    /// DynamoDB's partition key.
    leading_key: Option<String>,
}

impl Call {
    /// What the right to a call is. One that is not known here is a right that nobody has thought of.
    fn of(call: &Value) -> Vec<Self> {
        const ACCOUNT: &str = "123456789012";
        let (target, body) = (word(call, "target"), &call["body"]);
        let arn = |service: &str, name: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}{name}");
        let one = |action: &str, resource: String, leading_key: Option<String>| {
            vec![Self { action: action.to_owned(), resource, leading_key }]
        };
        let queue = || arn("sqs", &format!(":{}", word(body, "QueueUrl").rsplit('/').next().expect("a name")));
        let item = |action: &str, key: &str| {
            one(
                action,
                arn("dynamodb", &format!(":table/{}", word(body, "TableName"))),
                Some(word(&body[key]["pk"], "S")),
            )
        };
        match target.as_str() {
            "AmazonSSM.GetParameters" => list(body, "Names")
                .iter()
                .flat_map(|name| {
                    let name = name.as_str().expect("name").split(':').next().expect("a name");
                    one("ssm:GetParameters", arn("ssm", &format!(":parameter{name}")), None)
                })
                .collect(),
            "AmazonSQS.SendMessageBatch" => one("sqs:SendMessage", queue(), None),
            "AmazonSQS.ReceiveMessage" => one("sqs:ReceiveMessage", queue(), None),
            "AmazonSQS.DeleteMessage" => one("sqs:DeleteMessage", queue(), None),
            "AmazonSQS.ChangeMessageVisibilityBatch" => one("sqs:ChangeMessageVisibility", queue(), None),
            "DynamoDB_20120810.GetItem" => item("dynamodb:GetItem", "Key"),
            "DynamoDB_20120810.PutItem" => item("dynamodb:PutItem", "Item"),
            "DynamoDB_20120810.DeleteItem" => item("dynamodb:DeleteItem", "Key"),
            // It asks for one partition key, by the value `:pk` of its condition.
            "DynamoDB_20120810.Query" => one(
                "dynamodb:Query",
                arn("dynamodb", &format!(":table/{}", word(body, "TableName"))),
                Some(word(&body["ExpressionAttributeValues"][":pk"], "S")),
            ),
            other => panic!("which right does {other} need?"),
        }
    }

    fn is_allowed_by(&self, statement: &Value) -> bool {
        let has = |key: &str, value: &str| list(statement, key).iter().any(|one| one == value);
        let may = match &statement["Condition"] {
            Value::Null => true,
            condition => {
                let keys = &condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"];
                assert!(keys.is_array(), "a condition that this test does not know: {statement}");
                self.leading_key
                    .as_ref()
                    .is_some_and(|key| list(&json!({ "keys": keys }), "keys").iter().any(|one| one == key))
            }
        };
        let is_there = list(statement, "Resource").iter().any(|resource| fits(resource, &self.resource));
        statement["Effect"] == "Allow" && has("Action", &self.action) && is_there && may
    }
}

/// Whether a policy's resource stands for this ARN. Of IAM's wildcards ours that are tried have a `*` at the end.
fn fits(resource: &Value, arn: &str) -> bool {
    let resource = resource.as_str().expect("an ARN");
    resource.strip_suffix('*').map_or(arn == resource, |start| arn.starts_with(start))
}

/// Whether an event matches a pattern of EventBridge. Ours have nothing but lists of values.
fn matches(pattern: &Value, event: &Value) -> bool {
    match pattern {
        Value::Object(keys) => keys.iter().all(|(key, pattern)| matches(pattern, &event[key])),
        Value::Array(values) => values.contains(event),
        other => panic!("{other} in a pattern"),
    }
}

/// The zips of all functions, made once.
fn zips() -> &'static Path {
    static ZIPS: OnceLock<TempDir> = OnceLock::new();
    let folder = ZIPS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("folder");
        for name in FUNCTIONS {
            fs::create_dir(folder.path().join(name)).expect("folder");
            let zip = "import sys, zipfile\n\
                       with zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:\n    \
                       z.write(sys.argv[1], 'bootstrap')";
            let file = folder.path().join(name).join("bootstrap.zip");
            let ran = python().args(["-c", zip]).arg(binary(name)).arg(file).output();
            text(ran.expect("Python can be run"), "zipping");
        }
        folder
    });
    folder.path()
}

fn python() -> Command {
    Command::new(std::env::var("SLUICE_TEST_PYTHON").unwrap_or_else(|_| "python3".into()))
}

fn unzip(zip: &Path, folder: &Path) {
    let ran = python().args(["-m", "zipfile", "--extract"]).arg(zip).arg(folder).output();
    text(ran.expect("Python can be run"), "unpacking");
}

/// What a program printed.
fn text(ran: Output, what: &str) -> String {
    let (output, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{what}: {}\n{output}\n{errors}", ran.status);
    output.into_owned()
}

/// Copies a folder, without what a run of the program has left in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let name = entry.file_name();
        match entry.file_type().expect("type").is_dir() {
            true if name == ".terraform" => {}
            true => copy(&entry.path(), &to.join(name)),
            false if name.to_string_lossy().starts_with("terraform.tfstate") => {}
            false => drop(fs::copy(entry.path(), to.join(name)).expect("copied")),
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

/// The name at the end of a role's ARN.
fn role_of(arn: &Value) -> String {
    arn.as_str().and_then(|arn| arn.rsplit('/').next()).unwrap_or_else(|| panic!("{arn} is no ARN")).to_owned()
}

/// The name at the end of a function's ARN.
fn function_of(arn: &Value) -> String {
    arn.as_str().and_then(|arn| arn.rsplit(':').next()).unwrap_or_else(|| panic!("{arn} is no ARN")).to_owned()
}
