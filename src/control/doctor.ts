/**
 * `bosun doctor`: problems of this deployment, present and foreseeable. Pure; the facts are collected in operations.ts.
 */
import type { Totals } from '../admin/totals.ts';
import type { Config } from '../config/config.ts';
import { describeRedis, usesRedis } from '../config/redis-address.ts';
import { renamedWarning, type Service, SHARED_WARNING } from '../config/service.ts';
import type { MemoryView } from '../pool/memory.ts';
import type { Refusal } from '../pool/requests.ts';
import type { Status, WorkerState } from '../protocol/api.ts';
import { checkInWords } from '../protocol/check-words.ts';
import type { Finding } from '../protocol/commands.ts';
import { EXIT_SLACK_MS } from '../protocol/messages.ts';
import type { Sizing } from '../protocol/sizing.ts';
import type { RedisRefusal } from '../protocol/snapshot.ts';
import { WORKABLE_HEAP_MIB } from '../resources/heap.ts';
import { connectionsWithin } from '../resources/usage.ts';
import type { NameInUse } from '../state/service-names.ts';

export interface Facts {
  config: Config;
  sizing: Sizing;
  pool: { serving: number; wanted: number; isFailing: boolean; others: readonly { id: number; state: WorkerState }[] };
  lastFailure: Totals['lastFailure'];
  /** TERMINATION_GRACE_PERIOD_SECONDS, if it is set. */
  gracePeriodSeconds: number | undefined;
  /** RLIMIT_NOFILE; Node.js raises the soft limit to it. */
  hardFileLimit: number | undefined;
  /** Of each worker that has a limit. */
  connections: readonly { worker: number; connections: number; max: number }[];
  machine: { cpus: number; memoryBytes: number };
  memory: Pick<MemoryView, 'restart' | 'pointlessRecycling'>;
  lastRefusal: Refusal | undefined;
  isPid1: boolean;
  isInKubernetes: boolean;
  isDiagnosticsDirWritable: boolean;
  areSessionKeysGenerated: boolean;
  /** The Redis states that workers and the primary have reported. */
  redis: readonly { state: string; message: string; evictionPolicy?: string | undefined }[];
  redisRefusals: readonly RedisRefusal[];
  /** The app's health checks by name, for operators. */
  health: NonNullable<Status['health']>;
  service: ServiceFacts;
}

export interface ServiceFacts extends Pick<Service, 'isGiven' | 'app'> {
  name: string;
  /** Of the package or folder, if SERVICE_NAME is not set. */
  nameNow: string;
  /** What Redis says; undefined until then. */
  inUse: NameInUse | undefined;
  isChanging: boolean;
  /** Other apps with the same name. */
  strangers: readonly string[];
}

/** After a drain, a worker gets this time to exit. */
const EXIT_SLACK_S = EXIT_SLACK_MS / 1000;
/** A busy server has some thousands of connections, with a descriptor each. */
const MIN_FILES = 10_000;
/** Above this share of MAX_CONNECTIONS a worker counts as full. */
const NEARLY_FULL = 0.9;
/** In characters; a shorter key can be guessed. */
const MIN_KEY_LENGTH = 16;

/** One finding for each check, in the order of the checks. */
export function diagnoseDeployment(facts: Facts): Finding[] {
  return [
    gracePeriod(facts),
    files(facts),
    workers(facts),
    memory(facts),
    restarts(facts),
    recycling(facts),
    health(facts),
    redis(facts),
    service(facts),
    sessionKeys(facts),
    adminToken(facts),
    diagnosticsDir(facts),
    init(facts),
  ];
}

function gracePeriod({ config, gracePeriodSeconds }: Facts): Finding {
  const needed = (config.shutdownDelayMs + config.shutdownTimeoutMs) / 1000 + EXIT_SLACK_S;
  const sum = `SHUTDOWN_DELAY_MS + SHUTDOWN_TIMEOUT_MS + ${EXIT_SLACK_S} s = ${needed} s`;
  if (gracePeriodSeconds === undefined) {
    return finding(
      'grace period',
      'warning',
      `unknown: set TERMINATION_GRACE_PERIOD_SECONDS to the platform's grace period; it must be at least ${sum}`,
    );
  }
  if (gracePeriodSeconds < needed)
    return finding(
      'grace period',
      'problem',
      `${gracePeriodSeconds} s is below ${sum}: the platform kills the pod before the drain ends`,
    );
  return finding('grace period', 'ok', `${gracePeriodSeconds} s, needed ${sum}`);
}

function files({ hardFileLimit, config: { maxConnections: max, sticky }, connections }: Facts): Finding {
  const full = connections.find(each => each.connections >= each.max * NEARLY_FULL);
  const use = full && `worker ${full.worker} has ${full.connections} connections of ${full.max}`;
  if (hardFileLimit === undefined || hardFileLimit === Number.POSITIVE_INFINITY)
    return finding('file limit', use ? 'warning' : 'ok', use ?? 'unlimited or unknown');
  const files = `${hardFileLimit} descriptors for each process (hard limit)`;
  const fitting = connectionsWithin(hardFileLimit, sticky !== undefined);
  const bound = `${files}, ${Math.min(fitting, max ?? fitting)} connections for each worker`;
  if (max !== undefined && max > fitting)
    return finding('file limit', 'problem', `${files} leave room for ${fitting} connections, and MAX_CONNECTIONS is ${max}`);
  if (use !== undefined) return finding('file limit', 'warning', `${use}: raise MAX_CONNECTIONS, or run more pods; ${files}`);
  if (hardFileLimit < MIN_FILES) return finding('file limit', 'warning', `${bound}: raise it above ${MIN_FILES}`);
  return finding('file limit', 'ok', bound);
}

function workers(facts: Facts): Finding {
  const { sizing, pool, lastFailure, config } = facts;
  const { serving, wanted, isFailing, others } = pool;
  if (serving < wanted) {
    const serve = `${serving} of ${wanted} serve`;
    if (isFailing && lastFailure !== undefined) {
      const { worker, reason, failure = 'nothing was thrown' } = lastFailure;
      return finding('workers', 'problem', `${serve}: worker ${worker} failed (${reason}): ${failure}`);
    }
    return finding('workers', 'warning', [serve, ...others.map(({ id, state }) => `worker ${id} is ${state}`)].join('; '));
  }
  const isTooMany = sizing.workers > Math.max(1, Math.ceil(sizing.cpus.effective));
  const unlimited = allCpus(facts);
  const isOdd = isTooMany || (unlimited !== undefined && config.production);
  return finding('workers', isOdd ? 'warning' : 'ok', [sizing.reason, unlimited].filter(Boolean).join('; '));
}

/** A share of the machine that its other containers use too; undefined where the number of workers is set, or CPUs are limited. */
function allCpus({ sizing: { cpus }, config, machine }: Facts): string | undefined {
  if (cpus.quota !== null || cpus.effective < machine.cpus || config.workers.kind === 'count') return undefined;
  return `no CPU limit: all ${machine.cpus} CPUs of the machine count; in a container, set a limit, or NODE_CLUSTER_WORKERS`;
}

function memory({ sizing, machine }: Facts): Finding {
  const { limitBytes, heapPerWorkerMb } = sizing.memory;
  const all = 'one worker can use all memory of the machine';
  if (limitBytes === null) return finding('memory', 'warning', `no memory limit: ${all}`);
  if (limitBytes >= machine.memoryBytes)
    return finding('memory', 'warning', `the memory limit is not below what the machine has: ${all}`);
  const warning = sizing.warnings.find(text => /heap|young generation/.test(text));
  if (warning === undefined) return finding('memory', 'ok', `a heap of ${heapPerWorkerMb} MiB for each worker`);
  const isTooSmall = heapPerWorkerMb !== null && heapPerWorkerMb < WORKABLE_HEAP_MIB;
  return finding('memory', isTooSmall ? 'problem' : 'warning', warning);
}

function restarts({ memory: { restart }, lastRefusal }: Facts): Finding {
  const before = lastRefusal && `refused at ${new Date(lastRefusal.at).toISOString()}: ${lastRefusal.why}`;
  if (restart.kind === 'refuse') return finding('restart', 'problem', `would be refused: ${restart.why}`);
  const how =
    restart.kind === 'surge' ? 'the new worker starts first' : `the old worker ends first while clients wait: ${restart.why}`;
  return finding(
    'restart',
    before || restart.kind === 'old-first' ? 'warning' : 'ok',
    before ? `${how}; the last one was ${before}` : how,
  );
}

function recycling({ memory: { pointlessRecycling } }: Facts): Finding {
  if (pointlessRecycling !== undefined) return finding('recycling', 'problem', pointlessRecycling);
  return finding('recycling', 'ok', 'as set');
}

function health({ health: checks }: Facts): Finding {
  const wrong = Object.entries(checks).filter(([, { state, isUnready }]) => state !== 'ok' || isUnready);
  if (wrong.length === 0) return finding('health checks', 'ok', Object.keys(checks).join(', ') || 'the app has none');
  const isUnready = wrong.some(([, check]) => check.isUnready);
  return finding(
    'health checks',
    isUnready ? 'problem' : 'warning',
    wrong.map(([name, check]) => checkInWords(name, check)).join('; '),
  );
}

function redis({ redis: reports, redisRefusals, config }: Facts): Finding {
  if (!usesRedis(config)) {
    return finding(
      'Redis',
      config.production ? 'warning' : 'ok',
      'not configured: sessions are cookies, and other pods get no broadcasts',
    );
  }
  const worst = reports.find(({ state }) => state !== 'ready') ?? reports[0];
  if (worst === undefined) return finding('Redis', 'problem', `no answer from ${describeRedis(config)} yet`);
  const { state, message, evictionPolicy } = worst;
  const refused = redisRefusals.map(({ command, count, message }) => `${command} (${count} times): ${message}`).join('; ');
  const problems = [state !== 'ready' && message, refused && `Redis at ${describeRedis(config)} refuses ${refused}`].filter(
    Boolean,
  );
  if (problems.length > 0) return finding('Redis', 'problem', problems.join('; '));
  if (evictionPolicy?.startsWith('allkeys')) {
    return finding(
      'Redis',
      'warning',
      `${message}; maxmemory-policy is ${evictionPolicy}: it may evict the session keys; use a volatile policy`,
    );
  }
  return finding('Redis', 'ok', `${message}${evictionPolicy ? `; maxmemory-policy ${evictionPolicy}` : ''}`);
}

function service({ config, service: { name, nameNow, inUse, isChanging, strangers, isGiven } }: Facts): Finding {
  const is = (verdict: Finding['verdict'], detail: string) => finding('service', verdict, `${name}${detail}`);
  const source = isGiven ? '' : ' (of the package or folder: SERVICE_NAME is not set)';
  if (strangers.length > 0) return is('warning', `, also that of ${strangers.join(', ')}: ${SHARED_WARNING}`);
  if (name !== nameNow) return is('warning', `: ${renamedWarning(name)}`);
  if (inUse === undefined) return is('ok', source);
  if (isChanging)
    return is('warning', `: its names in Redis change from those of ${inUse.name}; bosun service migrate ends that`);
  if (config.serviceNameBefore !== undefined && config.serviceNameBefore !== name)
    return is('warning', ': the change of the name has ended; remove SERVICE_NAME_BEFORE');
  if (inUse.name !== name)
    return is('ok', `; its names in Redis are those of before (${inUse.name}): docs/guide/sessions.md, "Changing the name"`);
  return is('ok', source);
}

function sessionKeys({ config, areSessionKeysGenerated }: Facts): Finding {
  if (areSessionKeysGenerated) {
    return finding(
      'session keys',
      config.production ? 'problem' : 'warning',
      'generated at each start: sessions end when the primary exits, and other pods cannot verify them',
    );
  }
  if (config.production && config.sessionKeys === undefined) {
    return finding(
      'session keys',
      'warning',
      'shared through Redis: anyone who can read Redis can forge sessions, and events between pods are unsigned; set SESSION_KEYS (docs/trust.md)',
    );
  }
  const short = config.sessionKeys?.some(key => key.length < MIN_KEY_LENGTH);
  return finding(
    'session keys',
    short ? 'warning' : 'ok',
    short
      ? `a key of fewer than ${MIN_KEY_LENGTH} characters can be guessed`
      : config.sessionKeys
        ? 'given'
        : 'shared through Redis',
  );
}

function adminToken({ config }: Facts): Finding {
  const { adminToken: given, adminPort } = config;
  if (adminPort === 0) return finding('admin port', 'ok', 'off');
  if (given === undefined) return finding('admin port', 'ok', 'open to anyone who can reach it, without the text of errors');
  return given.length < MIN_KEY_LENGTH
    ? finding('admin port', 'warning', `an ADMIN_TOKEN of fewer than ${MIN_KEY_LENGTH} characters can be guessed`)
    : finding('admin port', 'ok', 'requires ADMIN_TOKEN');
}

function diagnosticsDir({ config, isDiagnosticsDirWritable }: Facts): Finding {
  return isDiagnosticsDirWritable
    ? finding('diagnostics folder', 'ok', config.diagnosticsDir)
    : finding('diagnostics folder', 'warning', `${config.diagnosticsDir} is not writable: use --output - to stream`);
}

function init({ isPid1, isInKubernetes }: Facts): Finding {
  if (!isPid1) return finding('init', 'ok', 'an init or another parent reaps orphans');
  const what = 'the primary is PID 1: it exits cleanly, but does not reap orphans of the app';
  // No warning: there it is the rule, and costs something only where an app leaves child processes behind.
  return isInKubernetes
    ? finding('init', 'ok', `${what}; shareProcessNamespace: true in the pod does`)
    : finding('init', 'warning', `${what}; set init: true (compose), or --init (docker run)`);
}

function finding(check: string, verdict: Finding['verdict'], detail: string): Finding {
  return { check, verdict, detail };
}
