/**
 * `make test-apps`: OpenTelemetry as its users install it, and the OTLP that it sends. A pod with an ES module of Koa, which uses the kit's Redis, calls a pod with
 * a CommonJS module of Express that listens by itself; both roll and stop under load. Every span of every answered request arrives.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../free-port.ts';
import { request } from '../process/clients.ts';
import { CLEAN, type Kit, startKit } from '../process/kit.ts';
import { temporaryFolder } from '../process/operator.ts';
import { LocalRedis, withRedis } from '../process/redis.ts';
import { installKit, layOutWithKit, PATH, registryError } from './projects.ts';

const run = promisify(execFile);

/** Of ES modules, and of CommonJS modules, where the package's own file is enough. */
const ES_MODULES = ['--import', './instrumentation.mjs'];
const COMMONJS = ['--import', '@opentelemetry/auto-instrumentations-node/register'];
const SERVER = 2;
const CLIENTS = 3;
const PAUSE_MS = 20;

interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  attributes: Record<string, unknown>;
  resource: Record<string, unknown>;
}

/** OTLP as JSON, which is Protocol Buffers' own. */
interface Attribute {
  key: string;
  value: Record<string, unknown>;
}
interface Traces {
  resourceSpans: {
    resource: { attributes: Attribute[] };
    scopeSpans: { spans: (Omit<Span, 'attributes' | 'resource'> & { attributes: Attribute[] })[] }[];
  }[];
}

const valuesOf = (attributes: Attribute[]) => Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

const offline = await registryError();
const skip = (offline !== undefined && `npm reaches no registry: ${offline}`) || withRedis.skip;
if (skip) console.error(`test-apps is skipped: ${skip}`);

describe('OpenTelemetry', { skip }, () => {
  let folder = '';
  before(async () => {
    folder = await layOutWithKit('tracing', await installKit());
  });

  test('a trace crosses two pods; rolling restarts and stops lose no span of an answered request', async t => {
    const { spans, endpoint } = await receiver(t);
    const redis = await LocalRedis.start();
    t.after(() => redis.stop());
    const pod = (service: string, app: string, options: string[], env: Record<string, string>) =>
      startPod(folder, ['start', ...options, app], { SERVICE_NAME: service, ...endpoint, ...env });
    const back = await pod('back', './back.cjs', COMMONJS, { PORT: String(await freePort()) });
    const { url: BACK } = await back.kit.ready();
    const front = await pod('front', './front.mjs', ES_MODULES, { BACK, REDIS_URL: redis.url });
    const { port } = await front.kit.ready();

    const answered: string[] = [];
    const order = async (id: string) => {
      const traceId = randomBytes(16).toString('hex');
      const headers = { traceparent: `00-${traceId}-${randomBytes(8).toString('hex')}-01` };
      const { status, body } = await request(port, `/orders/${id}`, { headers });
      assert.deepEqual([status, body], [200, `stock of ${id}`]);
      answered.push(traceId);
    };
    let isLoaded = true;
    const clients = Array.from({ length: CLIENTS }, async () => {
      for (; isLoaded; await sleep(PAUSE_MS)) await order('7');
    });
    await Promise.all([front.restart(), back.restart()]);
    for (const { kit } of [front, back]) assert.equal((await kit.probe('/readyz')).status, 200);
    isLoaded = false;
    await Promise.all(clients);
    const last = order('slow');
    await front.kit.event('test.order', ({ order }) => order === 'slow');
    assert.deepEqual(await front.kit.stop(), CLEAN, front.kit.transcript());
    await last;
    assert.deepEqual(await back.kit.stop(), CLEAN, back.kit.transcript());

    t.diagnostic(`${answered.length} requests, ${spans.length} spans`);
    assert.ok(answered.length > 100);
    const traces = Map.groupBy(spans, ({ traceId }) => traceId);
    for (const traceId of answered) assertWhole(traces.get(traceId) ?? [], { front: front.kit, back: back.kit });
    for (const { kit, service } of [
      { kit: front.kit, service: 'front' },
      { kit: back.kit, service: 'back' },
    ]) {
      const resources = spans.map(({ resource }) => resource).filter(resource => resource['service.name'] === service);
      const seen = (key: string) => [...new Set(resources.map(resource => resource[key]))].sort();
      assert.deepEqual(seen('bosun.generation'), ['1', '2']);
      assert.deepEqual(seen('service.version'), ['1.4.2']);
      assert.ok(seen('service.instance.id').every(id => /:\d+:[1-4]$/.test(String(id))));
      const workers = kit.workerPids.map(Number);
      assert.ok(seen('process.pid').every(pid => workers.includes(Number(pid))), 'the primary sends nothing');
    }
    assert.ok(!spans.some(({ attributes }) => attributes['url.path'] === '/readyz' || attributes['http.target'] === '/readyz'));
  });

  test('bosun dev traces TypeScript that Node.js cannot run, also after a save', async t => {
    const { spans, endpoint } = await receiver(t);
    const { kit } = await startPod(folder, ['dev', '--json', './typed.ts'], {
      ...endpoint,
      WORKER_NODE_OPTIONS: ES_MODULES.join(' '),
      NODE_CLUSTER_WORKERS: '1',
    });
    const { port } = await kit.ready();
    for (const id of ['1', '2']) {
      assert.equal((await request(port, `/units/${id}`)).body, 'piece');
      if (id === '2') break;
      kit.signal('SIGHUP');
      await kit.event('pool.restarted');
    }
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    const served = spans.filter(({ kind }) => kind === SERVER);
    assert.deepEqual(
      served.map(({ name, resource }) => [name, resource['bosun.generation']]),
      [
        ['GET /units/:id', '1'],
        ['GET /units/:id', '2'],
      ],
    );
  });
});

/** A pod of the project; `restart` resolves when its next generation serves. */
async function startPod(cwd: string, args: string[], env: Record<string, string>) {
  const bosun = join(cwd, 'node_modules', '.bin', 'bosun');
  const socket = join(temporaryFolder(), 'control.sock');
  const kit = await startKit({
    command: [bosun, ...args],
    cwd,
    detached: true,
    env: { PATH, CONTROL_SOCKET: socket, LOG_REQUESTS: 'true', ...env },
  });
  const restart = () => run(bosun, ['restart', '--socket', socket], { cwd, env: { ...process.env, PATH } });
  return { kit, restart };
}

/** A collector that keeps the spans, and what workers need to send theirs. Detectors of clouds would first look for one. */
async function receiver(t: TestContext) {
  const spans: Span[] = [];
  const server = createServer(async (incoming, response) => {
    let body = '';
    for await (const chunk of incoming) body += chunk;
    if (incoming.url === '/v1/traces') spans.push(...spansOf(JSON.parse(body) as Traces));
    response.setHeader('Content-Type', 'application/json').end('{}');
  });
  const port = await freePort();
  await once(server.listen(port, '127.0.0.1'), 'listening');
  t.after(() => server.close().closeAllConnections());
  const endpoint = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_NODE_RESOURCE_DETECTORS: 'env,host,process',
  };
  return { spans, endpoint };
}

const spansOf = ({ resourceSpans }: Traces): Span[] =>
  resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(scope =>
      scope.spans.map(span => ({ ...span, attributes: valuesOf(span.attributes), resource: valuesOf(resource.attributes) })),
    ),
  );

/** The spans of one request are there, in both pods, and so are the log lines, with the same ids. */
function assertWhole(spans: Span[], pods: { front: Kit; back: Kit }): void {
  const one = (service: string, name: string, isIt: (span: Span) => boolean) => {
    const found = spans.find(span => span.resource['service.name'] === service && span.name === name && isIt(span));
    assert.ok(found, `no ${name} of ${service} in ${JSON.stringify(spans)}`);
    return found;
  };
  const order = one('front', 'GET /orders/:id', ({ kind }) => kind === SERVER);
  const call = one('front', 'GET', ({ attributes }) => attributes['server.port'] !== undefined);
  const stock = one('back', 'GET /stock/:id', ({ kind }) => kind === SERVER);
  assert.equal(stock.parentSpanId, call.spanId);
  assert.equal(order.attributes['http.route'], '/orders/:id');
  one('front', 'GET', ({ attributes }) => attributes['db.system.name'] === 'redis');
  const lines = (kit: Kit, event: string) => kit.all(event).filter(({ trace_id }) => trace_id === order.traceId);
  const [logged] = lines(pods.front, 'test.order');
  assert.ok(spans.some(({ spanId }) => spanId === logged?.span_id));
  assert.deepEqual(lines(pods.front, 'request').map(({ span_id }) => span_id), [order.spanId]);
  assert.deepEqual(lines(pods.back, 'request').map(({ span_id }) => span_id), [stock.spanId]);
}
