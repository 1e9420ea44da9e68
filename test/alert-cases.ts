/**
 * For each alert of docker/alerts.yml: series with which it fires, and series with which it must not. Values are in promtool's notation,
 * one each 15 s: `1+2x40` is 1, 3, 5 … for 40 steps, `_` is no value.
 */

/** The labels of a pod, as Prometheus of compose.yaml and the Prometheus operator set them. */
const POD = 'job="koa-bosun",instance="10.0.0.1:9090"';
const OTHER = 'job="koa-bosun",instance="10.0.0.2:9090"';
const OPERATED = 'namespace="team",job="team/shop",instance="10.1.0.1:9090"';
const APP = { job: 'koa-bosun' };
const INSTANCE = { ...APP, instance: '10.0.0.1:9090' };

/** From series to values. */
export type Series = Record<string, string>;

/** With these series the alert fires at `at`, once, with these labels besides the severity. */
export interface Firing {
  series: Series;
  at: string;
  labels: Record<string, string>;
  summary: string;
}

export interface AlertCase {
  fires: Firing;
  alsoFires?: Record<string, Firing>;
  /** With each of these it does not fire from the 10th minute on, in which what is brief happens. */
  quiet: Record<string, Series>;
}

/** A pod with two wanted workers. */
const wanted = (labels = POD): Series => ({ [`bosun_workers_wanted{${labels}}`]: '2x240' });
const ready = (values: string, labels = POD): Series => ({ [`bosun_workers{${labels},state="ready"}`]: values });
/** A counter that exists from the begin, and grows by 1 after 10 minutes. */
const COUNTED_ONCE = '0x40 1x200';

export const CASES: Record<string, AlertCase> = {
  BosunNobodyServes: {
    fires: {
      series: { ...wanted(), ...ready('2x40 0x200') },
      at: '15m',
      labels: APP,
      summary: 'no worker of koa-bosun is ready, or Prometheus finds no pod of it',
    },
    alsoFires: {
      'no pod of one of two apps is left': {
        series: {
          [`bosun_workers_wanted{${OPERATED}}`]: '2x20 stale',
          ...ready('2x20 stale', OPERATED),
          ...wanted(),
          ...ready('2x240'),
        },
        at: '7m',
        labels: { namespace: 'team', job: 'team/shop' },
        summary: 'no worker of team/shop is ready, or Prometheus finds no pod of it',
      },
    },
    quiet: {
      'another pod serves': { ...wanted(), ...ready('2x40 0x200'), ...wanted(OTHER), ...ready('1x240', OTHER) },
      'the workers are replaced': { ...wanted(), ...ready('2x56 0x3 2x200') },
      'another app in another namespace serves': { ...wanted(OPERATED), ...ready('2x240', OPERATED) },
    },
  },
  BosunServerErrors: {
    fires: {
      series: {
        ...wanted(),
        [`http_request_duration_seconds_count{${POD},method="GET",status="200"}`]: '0+98x240',
        [`http_request_duration_seconds_count{${POD},method="GET",status="503"}`]: '0+2x240',
      },
      at: '15m',
      labels: APP,
      summary: '2% of the answers of koa-bosun are server errors',
    },
    quiet: {
      'half a percent': {
        ...wanted(),
        [`http_request_duration_seconds_count{${POD},method="GET",status="200"}`]: '0+995x240',
        [`http_request_duration_seconds_count{${POD},method="GET",status="500"}`]: '0+5x240',
      },
      'a burst': {
        ...wanted(),
        [`http_request_duration_seconds_count{${POD},method="GET",status="200"}`]: '0+98x240',
        [`http_request_duration_seconds_count{${POD},method="GET",status="503"}`]: '0x40 50x200',
      },
      'client errors': { ...wanted(), [`http_request_duration_seconds_count{${POD},method="GET",status="404"}`]: '0+98x240' },
      'no request at all': { ...wanted(), [`http_request_duration_seconds_count{${POD},method="GET",status="500"}`]: '5x240' },
      'another program with a metric of that name': {
        'http_request_duration_seconds_count{job="other",status="500"}': '0+98x240',
      },
    },
  },
  BosunCrashLoop: {
    fires: {
      series: {
        [`bosun_worker_exits_total{${POD},reason="crash"}`]: '0+1x240',
        [`bosun_worker_exits_total{${POD},reason="oom"}`]: '0x240',
      },
      at: '5m',
      labels: INSTANCE,
      summary: 'workers of 10.0.0.1:9090 keep dying; at RESTART_INTENSITY the pod gives up with exit code 70',
    },
    quiet: {
      'two crashes': { [`bosun_worker_exits_total{${POD},reason="crash"}`]: '0x5 1x5 2x240' },
      'rolling restarts': { [`bosun_worker_exits_total{${POD},reason="restart"}`]: '0+2x240' },
    },
  },
  BosunPodUnreachable: {
    fires: {
      series: { ...wanted(), [`up{${POD}}`]: '1x40 0x200' },
      at: '15m',
      labels: INSTANCE,
      summary: 'Prometheus cannot scrape 10.0.0.1:9090 of koa-bosun',
    },
    quiet: {
      'a slow scrape': { ...wanted(), [`up{${POD}}`]: '1x40 0x3 1x200' },
      'the pod has ended': { ...wanted(), [`up{${POD}}`]: '1x40' },
      'a target of another program': { ...wanted(), 'up{job="other",instance="10.0.0.9:80"}': '0x240' },
    },
  },
  BosunWorkersMissing: {
    fires: {
      series: { ...wanted(), ...ready('1x240') },
      at: '10m',
      labels: INSTANCE,
      summary: '10.0.0.1:9090 has 1 ready workers, fewer than it wants',
    },
    quiet: {
      'a worker is replaced': { ...wanted(), ...ready('2x40 1x4 2x200') },
      'a cordoned worker beside a restart': { ...wanted(), ...ready('2x240') },
    },
  },
  BosunWorkerSilent: {
    fires: {
      series: { [`bosun_worker_snapshot_age_seconds{${POD},worker="2"}`]: '0.5x10 16x200' },
      at: '5m',
      labels: { ...INSTANCE, worker: '2' },
      summary: 'worker 2 of 10.0.0.1:9090 has not reported for 16s',
    },
    quiet: {
      'it reports': { [`bosun_worker_snapshot_age_seconds{${POD},worker="2"}`]: '0.9x240' },
      'it reports late once': { [`bosun_worker_snapshot_age_seconds{${POD},worker="2"}`]: '0.9x40 12 0.9x200' },
    },
  },
  BosunRestartFailed: {
    fires: {
      series: { [`bosun_rolling_restarts_total{${POD},result="failure"}`]: COUNTED_ONCE },
      at: '15m',
      labels: INSTANCE,
      summary: 'a rolling restart of 10.0.0.1:9090 failed; the workers of before still serve',
    },
    quiet: {
      'long ago': { [`bosun_rolling_restarts_total{${POD},result="failure"}`]: '1x240' },
      success: { [`bosun_rolling_restarts_total{${POD},result="success"}`]: '0+1x240' },
    },
  },
  BosunRequestsCut: {
    fires: {
      series: { [`bosun_cut_requests_total{${POD}}`]: COUNTED_ONCE },
      at: '15m',
      labels: INSTANCE,
      summary: '10.0.0.1:9090 aborted requests: SHUTDOWN_TIMEOUT_MS is too short for them, or a worker was killed',
    },
    quiet: { 'long ago': { [`bosun_cut_requests_total{${POD}}`]: '3x240' } },
  },
  BosunRequestsShed: {
    fires: {
      series: { [`bosun_shed_requests_total{${POD}}`]: '0+30x240' },
      at: '15m',
      labels: APP,
      summary: 'koa-bosun refuses 2.0 requests a second because its event loops are overloaded',
    },
    quiet: { 'one burst': { [`bosun_shed_requests_total{${POD}}`]: '0x30 50x210' } },
  },
  BosunRequestsTurnedAway: {
    fires: {
      series: { [`bosun_concurrency_rejected_total{${POD}}`]: '0+30x240' },
      at: '15m',
      labels: APP,
      summary: 'koa-bosun turns 2.0 requests a second away: more come than the app can answer in its usual time',
    },
    quiet: { 'one burst': { [`bosun_concurrency_rejected_total{${POD}}`]: '0x30 50x210' } },
  },
  BosunFull: {
    fires: {
      series: { [`bosun_utilization{${POD}}`]: '0.95x240' },
      at: '15m',
      labels: APP,
      summary: 'koa-bosun is full: more pods than maxReplicas, or larger ones, are needed',
    },
    quiet: {
      'for 5 minutes': { [`bosun_utilization{${POD}}`]: '0.5x40 0.95x20 0.5x180' },
      'one of two pods': { [`bosun_utilization{${POD}}`]: '1x240', [`bosun_utilization{${OTHER}}`]: '0.5x240' },
    },
  },
  BosunCpuThrottled: {
    fires: {
      series: { [`bosun_cpu_throttled_seconds_total{${POD}}`]: '0+3x240' },
      at: '15m',
      labels: INSTANCE,
      summary: 'the CPU quota withholds 0.2 CPUs from 10.0.0.1:9090',
    },
    quiet: {
      little: { [`bosun_cpu_throttled_seconds_total{${POD}}`]: '0+0.3x240' },
      'a burst': { [`bosun_cpu_throttled_seconds_total{${POD}}`]: '0x40 60x200' },
    },
  },
  BosunMemoryStalls: {
    fires: {
      series: { [`bosun_pressure_memory_stalled_seconds_total{${POD}}`]: '0+1.5x240' },
      at: '15m',
      labels: INSTANCE,
      summary: '10.0.0.1:9090 waits for memory for 10% of the time',
    },
    quiet: {
      little: { [`bosun_pressure_memory_stalled_seconds_total{${POD}}`]: '0+0.6x240' },
      'a burst': { [`bosun_pressure_memory_stalled_seconds_total{${POD}}`]: '0x40 60x200' },
    },
  },
  BosunSessionStoreErrors: {
    fires: {
      series: { [`bosun_session_store_errors_total{${POD}}`]: '0+15x240' },
      at: '5m',
      labels: APP,
      summary: 'Redis fails 1.0 requests of koa-bosun a second',
    },
    quiet: { 'a short outage, over': { [`bosun_session_store_errors_total{${POD}}`]: '0x40 40x200' } },
  },
  BosunRedisRefuses: {
    fires: {
      series: { [`bosun_redis_refusals{${POD},code="READONLY"}`]: '1x240' },
      at: '5m',
      labels: { ...APP, code: 'READONLY' },
      summary: 'Redis refuses commands of koa-bosun with READONLY',
    },
    quiet: { 'no longer': { [`bosun_redis_refusals{${POD},code="READONLY"}`]: '0x40 1x2 0x200' } },
  },
  BosunHealthCheckFails: {
    fires: {
      series: {
        [`bosun_health_check_failing{${POD},check="database"}`]: '2x240',
        [`bosun_health_check_failing{${POD},check="queue"}`]: '0x240',
      },
      at: '5m',
      labels: { ...APP, check: 'database' },
      summary: 'the health check database of koa-bosun fails in 2 workers',
    },
    quiet: { 'a short outage': { [`bosun_health_check_failing{${POD},check="database"}`]: '0x40 2x4 0x200' } },
  },
  BosunBroadcastsLost: {
    fires: {
      series: { [`bosun_broadcasts_lost_total{${POD},reason="missed"}`]: COUNTED_ONCE },
      at: '15m',
      labels: { ...APP, reason: 'missed' },
      summary: 'events between the pods of koa-bosun were lost (missed)',
    },
    quiet: { 'long ago': { [`bosun_broadcasts_lost_total{${POD},reason="missed"}`]: '7x240' } },
  },
  BosunLogLinesDropped: {
    fires: {
      series: { [`bosun_dropped_log_lines_total{${POD}}`]: COUNTED_ONCE },
      at: '15m',
      labels: INSTANCE,
      summary: '10.0.0.1:9090 dropped log lines: the program that reads them is too slow, or gone',
    },
    quiet: { 'long ago': { [`bosun_dropped_log_lines_total{${POD}}`]: '7x240' } },
  },
};
