/**
 * `/metrics` as OpenMetrics: every line by the grammar of the specification, and the rules that it has besides. With a real Prometheus:
 * test/container/prometheus.test.ts.
 */
import assert from 'node:assert/strict';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry, Summary } from 'prom-client';
import { newestExemplars } from '../src/admin/counters.ts';
import { metricsText } from '../src/admin/metrics.ts';
import { formatFor } from '../src/admin/server.ts';
import { Totals } from '../src/admin/totals.ts';
import { sampledTraceId } from '../src/log/telemetry.ts';
import { MalformedError } from '../src/protocol/shapes.ts';
import { type AppMetric, type Exemplar, MAX_EXEMPLARS, type Snapshot } from '../src/protocol/snapshot.ts';
import { snapshot } from '../src/protocol/snapshot-shapes.ts';
import { type Load, Stats } from '../src/worker/stats.ts';
import { fullPod } from './docs/metrics-reference.ts';
import { exitOf, snapshotOf } from './exited.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const LOAD: Load = { connections: 0, accepted: 0, load: 0, inFlight: 0 };

// The grammar of the specification, without timestamps and created series, which the kit does not write.
const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const ESCAPED = '(?:[^"\\\\\\n]|\\\\.)*';
const LABELS = `(?:\\{(?:[a-zA-Z_][a-zA-Z0-9_]*="${ESCAPED}"(?:,(?!\\})|(?=\\})))*\\})?`;
const NUMBER = '(?:[+-]?\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?|[+-]Inf|NaN)';
const DESCRIPTOR = new RegExp(`^# (TYPE|HELP) (${NAME}) (${ESCAPED})$`, 'i');
const SAMPLE = new RegExp(`^(${NAME})(${LABELS}) (${NUMBER})( # ${LABELS} ${NUMBER} ${NUMBER})?$`, 'i');
/** What a sample may add to the name of its family, by type. */
const SUFFIXES: Record<string, string[]> = {
  counter: ['_total'],
  gauge: [''],
  unknown: [''],
  summary: ['', '_sum', '_count'],
  histogram: ['_bucket', '_sum', '_count'],
};

/** The samples of a page, by name and labels. Fails where the page is not valid. */
function parse(text: string): Map<string, { value: number; exemplar: string | undefined }> {
  assert.ok(text.endsWith('\n# EOF\n'));
  const samples = new Map<string, { value: number; exemplar: string | undefined }>();
  const families = new Map<string, string>();
  const taken = new Set<string>();
  let family = '';
  for (const line of text.slice(0, -'# EOF\n'.length - 1).split('\n')) {
    const [, kind, name = '', rest = ''] = DESCRIPTOR.exec(line) ?? [];
    if (kind === 'TYPE') {
      assert.equal(families.has(name), false, `twice: ${name}`);
      assert.ok(rest in SUFFIXES, line);
      families.set(name, rest);
      for (const suffix of new Set([...(SUFFIXES[rest] ?? []), ''])) {
        assert.equal(taken.has(name + suffix), false, `clash: ${name}${suffix}`);
        taken.add(name + suffix);
      }
      family = name;
    }
    if (kind !== undefined) continue;
    const [, sample = '', labels = '', value = '', exemplar] = SAMPLE.exec(line) ?? [];
    assert.notEqual(sample, '', `no sample: ${line}`);
    const type = families.get(family) ?? '';
    assert.ok(
      (SUFFIXES[type] ?? []).some(suffix => family + suffix === sample),
      `${line} is not of ${type} ${family}`,
    );
    if (exemplar !== undefined) assert.match(sample, /_bucket$/);
    assert.equal(samples.has(sample + labels), false, `twice: ${line}`);
    samples.set(sample + labels, { value: Number(value.replace('Inf', 'Infinity')), exemplar: exemplar?.trim() });
  }
  return samples;
}

/** The page of a pod whose worker has sent this. */
async function page(more: Partial<Snapshot>): Promise<ReturnType<typeof parse>> {
  const { contentType, text } = await metricsText(fullPod(more), () => undefined, 'openmetrics');
  assert.equal(contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  return parse(text);
}

/** The samples of the plain text of the same pod. */
async function plain(more: Partial<Snapshot>): Promise<string[]> {
  const { contentType, text } = await metricsText(fullPod(more), () => undefined);
  assert.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8');
  assert.doesNotMatch(text, /trace_id|EOF/);
  return text.split('\n').flatMap(line => (line === '' || line.startsWith('#') ? [] : [line.slice(0, line.lastIndexOf(' '))]));
}

const metricsOf = async (register: (registers: Registry[]) => void): Promise<AppMetric[]> => {
  const registry = new Registry();
  register([registry]);
  return registry.getMetricsAsJSON();
};

/** As the primary has it: parsed from what a worker sends. */
const received = (stats: Stats): Snapshot => snapshot(JSON.parse(JSON.stringify(stats.snapshot(LOAD, []))), 'snapshot');

test('the metrics of the kit and of an app are valid OpenMetrics, with the series of the plain text', async () => {
  const appMetrics = await metricsOf(registers => {
    for (const register of registers) collectDefaultMetrics({ register });
    new Counter({ name: 'jobs_total', help: 'Of "all".\nTwo lines \\ one.', labelNames: ['kind'], registers }).inc({
      kind: 'a"b\\\n',
    });
    new Counter({ name: 'unsuffixed', help: 'h', registers }).inc(2);
    new Counter({ name: 'both_total', help: 'h', registers }).inc(3);
    new Gauge({ name: 'both', help: 'h', registers }).set(Number.POSITIVE_INFINITY);
    new Counter({ name: 'process_cpu_seconds', help: 'h', registers }).inc();
    new Histogram({ name: 'sizes', help: 'h', buckets: [1, 2], registers }).observe(1.5);
    new Summary({ name: 'waits', help: 'h', registers }).observe(1.5);
  });
  const samples = await page({ appMetrics });
  assert.deepEqual(new Set(samples.keys()), new Set(await plain({ appMetrics })));
  assert.equal(samples.get('unsuffixed')?.value, 2);
  assert.equal(samples.get('both_total')?.value, 3);
});

test('any label values and help texts of an app make valid OpenMetrics', async () => {
  const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 });
  const metric = fc.record({
    name: fc.stringMatching(/^[a-z]{1,3}(_total|_sum)?$/),
    help: text,
    label: text,
    value: fc.double(),
  });
  const property = fc.asyncProperty(fc.uniqueArray(metric, { maxLength: 4, selector: ({ name }) => name }), async metrics => {
    const appMetrics = await metricsOf(registers => {
      for (const { name, help, label } of metrics)
        new Counter({ name, help, labelNames: ['label'], registers }).inc({ label }, 1);
    });
    const sent = snapshot(JSON.parse(JSON.stringify(snapshotOf({ appMetrics }))), 'snapshot');
    assert.ok((await page({ appMetrics: sent.appMetrics })).size > metrics.length);
  });
  await fc.assert(property, { numRuns: 30 });
});

test('the last sampled request of each bucket is its exemplar, and no other line has one', async () => {
  const stats = new Stats([0.1, 1]);
  stats.onResponse('GET', 200, 20, undefined, 'f'.repeat(32));
  stats.onResponse('GET', 200, 30, undefined, TRACE);
  stats.onResponse('GET', 200, 40);
  stats.onResponse('GET', 200, 50, '/users/:id', TRACE);
  stats.onResponse('BREW', 500, 2500, undefined, TRACE);
  const before = Date.now() / 1000;
  const { http, exemplars } = received(stats);
  const pod = { ...fullPod({ http, ...(exemplars && { exemplars }) }), bucketsS: [0.1, 1] };
  const samples = parse((await metricsText(pod, () => undefined, 'openmetrics')).text);
  const found = [...samples].flatMap(([name, { exemplar }]) => (exemplar === undefined ? [] : [`${name} ${exemplar}`]));
  const at = found.map(line => Number(line.slice(line.lastIndexOf(' '))));
  assert.ok(at.every(seconds => Math.abs(seconds - before) < 3600));
  assert.deepEqual(
    found.map(line => line.slice(0, line.lastIndexOf(' '))),
    [
      `http_request_duration_seconds_bucket{le="0.1",method="GET",status="200"} # {trace_id="${TRACE}"} 0.03`,
      `http_request_duration_seconds_bucket{le="+Inf",method="other",status="500"} # {trace_id="${TRACE}"} 2.5`,
      `http_request_duration_seconds_bucket{le="0.1",method="GET",status="200",route="/users/:id"} # {trace_id="${TRACE}"} 0.05`,
    ],
  );
});

test('a worker keeps the exemplars of the buckets that were used last, and has none without a trace', () => {
  const stats = new Stats([0.1]);
  stats.onResponse('GET', 200, 20);
  assert.equal(received(stats).exemplars, undefined);
  for (let status = 100; status <= 100 + MAX_EXEMPLARS; status++) stats.onResponse('GET', status, 20, undefined, TRACE);
  stats.onResponse('GET', 101, 20, undefined, TRACE);
  stats.onResponse('GET', 999, 20, undefined, TRACE);
  const statuses = received(stats).exemplars?.map(({ status }) => status) ?? [];
  assert.equal(statuses.length, MAX_EXEMPLARS);
  assert.deepEqual([statuses.includes(101), statuses.includes(102), statuses.at(-1)], [true, false, 999]);
});

const EXEMPLAR: Exemplar = { method: 'GET', status: 200, bucket: 0, traceId: TRACE, seconds: 1, at: 2 };

test('the primary refuses exemplars of another shape, and more than a worker keeps', () => {
  const parseAll = (exemplars: unknown) => snapshot({ ...snapshotOf(), exemplars }, 'snapshot').exemplars;
  assert.deepEqual(parseAll([{ ...EXEMPLAR, more: 1 }]), [EXEMPLAR]);
  const wrong = [
    { traceId: TRACE.toUpperCase() },
    { traceId: TRACE.slice(1) },
    { traceId: `${TRACE}\n` },
    { seconds: Number.NaN },
    { seconds: -1 },
    { at: Number.POSITIVE_INFINITY },
    { bucket: 0.5 },
    { bucket: 1e6 },
    { status: 20 },
    { method: 'BREW' },
    { route: 'a\n' },
  ];
  for (const field of wrong) assert.throws(() => parseAll([{ ...EXEMPLAR, ...field }]), MalformedError, JSON.stringify(field));
  assert.throws(() => parseAll(new Array(MAX_EXEMPLARS + 1).fill(EXEMPLAR)), MalformedError);
});

test('of all workers the newest exemplar of a bucket counts, also of one that has exited', () => {
  const totals = new Totals();
  const older = { ...EXEMPLAR, at: 1, traceId: 'e'.repeat(32) };
  totals.onEvent(exitOf(1, { snapshot: snapshotOf({ exemplars: [EXEMPLAR] }) }), 0);
  const worker = { snapshot: snapshotOf({ exemplars: [older, { ...older, bucket: 1 }] }) };
  assert.deepEqual(totals.exemplarsWith([worker as never]), [EXEMPLAR, { ...older, bucket: 1 }]);
  const many = Array.from({ length: 2 * MAX_EXEMPLARS }, (_, at) => ({ ...EXEMPLAR, status: 100 + at, at }));
  assert.equal(newestExemplars(many).length, MAX_EXEMPLARS);
  assert.equal(newestExemplars(many)[0], many.at(-1));
});

test('only sampled traces are named', () => {
  const idOf = (traceparent?: string) => {
    const request = new IncomingMessage(new Socket());
    if (traceparent !== undefined) request.headers.traceparent = traceparent;
    return sampledTraceId(request);
  };
  const header = (flags: string) => `00-${TRACE}-b7ad6b7169203331-${flags}`;
  assert.deepEqual([header('01'), header('03')].map(idOf), [TRACE, TRACE]);
  assert.deepEqual([undefined, 'x', header('00'), header('02')].map(idOf), [undefined, undefined, undefined, undefined]);
});

test('OpenMetrics is for clients whose Accept header names it and ranks it no lower than plain text', () => {
  const open = [
    'application/openmetrics-text',
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
    'Application/OpenMetrics-Text;Version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
    'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.2',
    'application/openmetrics-text,text/plain',
  ];
  const text = [
    undefined,
    '',
    '*/*',
    'text/plain',
    'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8',
    'application/*',
    'application/openmetrics-text;q=0',
    'application/openmetrics-text;q=x',
    'application/openmetrics-text;version=0.0.1',
    'application/openmetrics-text;version=2.0.0,text/plain',
    'application/openmetrics-text;q=0.3,text/plain;q=0.4',
    'application/openmetrics-textual',
    `${','.repeat(10_000)};;=;__proto__=1`,
  ];
  for (const accept of open) assert.equal(formatFor(accept), 'openmetrics', accept);
  for (const accept of text) assert.equal(formatFor(accept), 'text', accept?.slice(0, 100) ?? 'without');
});
