import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { type Kit, startKit } from './kit.ts';
import { SOAKS } from './policies.ts';
import { writtenApp } from './written-app.ts';

const KILLS = SOAKS ? 20 : 8;

/** Samples by their name with labels, as the text format has them. */
type Samples = Map<string, number>;

async function scrape(kit: Kit): Promise<{ text: string; samples: Samples; counters: Set<string> }> {
  const { status, body: text } = await request(kit.adminPort, '/metrics');
  assert.equal(status, 200);
  const samples: Samples = new Map();
  const counters = new Set<string>();
  for (const line of text.split('\n')) {
    const [, name = '', type = ''] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (type === 'counter' || type === 'histogram') counters.add(name);
    if (line === '' || line.startsWith('#')) continue;
    const [, key = '', value = ''] = /^([a-z_:][\w:]*(?:\{[^}]*\})?) (\S+)$/i.exec(line) ?? [];
    assert.notEqual(key, '', `not a sample: ${line}`);
    assert.equal(samples.has(key), false, `twice: ${key}`);
    samples.set(key, Number(value));
  }
  return { text, samples, counters };
}

const isCounter = (key: string, counters: Set<string>) =>
  counters.has(key.replace(/\{.*/, '')) || counters.has(key.replace(/_(bucket|sum|count)(\{.*|$)/, ''));

const answered = (samples: Samples) =>
  [...samples].reduce((sum, [key, value]) => (key.startsWith('http_request_duration_seconds_count') ? sum + value : sum), 0);

test(`no counter goes down over ${KILLS} killed workers, and every answered request is counted`, async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { WORKER_HEARTBEAT_TIMEOUT_MS: '2000' } });
  const { port } = await kit.ready();
  let before = await scrape(kit);
  let requested = 0;
  for (let kill = 1; kill <= KILLS; kill++) {
    await kit.statusWhere(({ workers }) => workers.filter(({ state }) => state === 'ready').length === 2);
    const { status } = await request(port, '/');
    assert.equal(status, 200);
    requested++;
    // What a worker has not reported dies with it: up to a second.
    await until(
      async () => (answered((await scrape(kit)).samples) >= requested ? true : undefined),
      () => `${requested} requests were answered`,
    );
    const { workers } = await kit.status();
    const victim = workers.find(({ state }) => state === 'ready');
    assert.ok(victim);
    process.kill(victim.pid, 'SIGKILL');
    await kit.event('worker.exit', ({ workerPid }) => workerPid === victim.pid);
    const now = await scrape(kit);
    for (const [key, value] of before.samples) {
      if (isCounter(key, before.counters))
        assert.ok((now.samples.get(key) ?? -1) >= value, `${key}: ${value} before, now ${now.samples.get(key)}`);
    }
    assert.equal(answered(now.samples), requested);
    before = now;
  }
  assert.equal(before.samples.get('bosun_worker_exits_total{reason="killed"}'), KILLS);
});

test('/metrics has CPU, memory and descriptors of every process, and the age of the last snapshot of a stopped worker', async () => {
  const kit = await startKit({ env: { METRICS_BUCKETS: '0.75,60' } });
  const { port } = await kit.ready();
  await request(port, '/');
  const { workers } = await kit.statusWhere(status => status.workers.some(({ requests }) => requests > 0));
  const [worker] = workers;
  assert.ok(worker);
  process.kill(worker.pid, 'SIGSTOP');
  const age = `bosun_worker_snapshot_age_seconds{worker="${worker.id}"}`;
  try {
    const { samples } = await until(
      async () => {
        const found = await scrape(kit);
        return (found.samples.get(age) ?? 0) > 2 ? found : undefined;
      },
      () => 'the age of a stopped worker grows',
    );
    for (const label of ['primary', '1', '2']) {
      assert.ok((samples.get(`process_cpu_seconds_total{worker="${label}"}`) ?? 0) > 0, label);
      assert.ok((samples.get(`process_resident_memory_bytes{worker="${label}"}`) ?? 0) > 1e7, label);
      const [open = 0, most = 0] = ['open', 'max'].map(name => samples.get(`process_${name}_fds{worker="${label}"}`));
      assert.ok(open > 5 && open < most, `${label}: ${open} of ${most}`);
    }
    const buckets = [...samples.keys()].filter(key => key.startsWith('http_request_duration_seconds_bucket'));
    assert.deepEqual(
      buckets.map(key => /le="([^"]+)"/.exec(key)?.[1]),
      ['0.75', '60', '+Inf'],
      'METRICS_BUCKETS',
    );
    assert.ok(samples.has('nodejs_eventloop_lag_seconds{worker="1"}'));
    assert.ok(samples.has('nodejs_eventloop_utilization{worker="2"}'));
    assert.ok((samples.get('bosun_utilization') ?? 0) > 0.2, 'a stopped worker counts as full');
  } finally {
    process.kill(worker.pid, 'SIGCONT');
  }
});

test('bosun_utilization is what a worker does of known work', async () => {
  const app = writtenApp(`
    setInterval(() => { for (const end = performance.now() + 60; performance.now() < end; ); }, 100);
    return (req, res) => res.end('{}');`);
  const kit = await startKit({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1' } });
  await kit.ready();
  const utilization = async () => (await scrape(kit)).samples.get('bosun_utilization') ?? 0;
  const measured = await until(
    async () => (await utilization()) || undefined,
    () => kit.transcript(),
  );
  assert.ok(measured > 0.5 && measured < 0.9, `60 of 100 ms of one event loop: ${measured}`);
});

test("app metrics whose names the kit uses, such as prom-client's default ones, are renamed and logged once", async () => {
  const app = writtenApp(`
    const { collectDefaultMetrics, Histogram } = createRequire('${import.meta.dirname}/')('prom-client');
    collectDefaultMetrics({ register: kit.metrics });
    const name = 'http_request_duration_seconds';
    new Histogram({ name, help: 'Of the app.', labelNames: ['route'], registers: [kit.metrics] }).observe({ route: '/a' }, 1);
    return (req, res) => res.end('{}');`);
  const kit = await startKit({ env: { APP_MODULE: app } });
  await kit.ready();
  const own = 'app_http_request_duration_seconds_count{route="/a"}';
  const text = await until(
    async () => {
      const found = await scrape(kit); // which fails where a sample is there twice
      return found.samples.get(own) === 2 ? found.text : undefined;
    },
    () => kit.transcript(),
  );
  const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  assert.deepEqual(names, [...new Set(names)]);
  assert.ok(names.includes('nodejs_gc_duration_seconds') && names.includes('app_process_cpu_user_seconds_total'));
  const reported = kit.all('metrics.renamed').flatMap(({ metrics }) => metrics as string[]);
  assert.ok(reported.includes('http_request_duration_seconds') && reported.includes('nodejs_eventloop_lag_seconds'));
  assert.equal(new Set(reported).size, reported.length, 'once');
});
