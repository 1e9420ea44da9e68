/**
 * The admin port answers as docs/reference/openapi.yaml says: in every state of the pod, to every method, with and without a token.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Block, blocksOf } from '../docs/blocks.ts';
import { until } from '../until.ts';
import { RawClient, request, requestText } from './clients.ts';
import { type Kit, ROOT, startKit } from './kit.ts';
import { assertDescribed, assertMessage, PATHS } from './openapi-answers.ts';

const TOKEN = 'a-token-of-this-test';
const AUTHORIZED = { Authorization: `Bearer ${TOKEN}` };

const isJson = ({ language }: Block) => language === 'json';

describe('the HTTP API', { concurrency: 2 }, () => {
  test('while workers start, and fail to, the answers are those of openapi.yaml', async () => {
    const kit = await startKit({ app: 'never-ready.mjs', env: { WORKER_START_TIMEOUT_MS: '500' } });
    await kit.event('admin.listening');
    const { status, body } = await kit.probe('/readyz');
    const [shown] = blocksOf(readFileSync(join(ROOT, 'docs', 'reference', 'http-api.md'), 'utf8')).filter(isJson);
    assert.deepEqual([status, JSON.parse(body)], [503, JSON.parse(shown?.text ?? '')], 'as on the page');
    await kit.event('worker.exit', ({ reason }) => reason === 'start-timeout');
    assert.deepEqual(Object.fromEntries(await answers(kit, {})), {
      '/livez': 200,
      '/readyz': 503,
      '/startupz': 503,
      '/status': 200,
      '/metrics': 200,
      '/': 200,
    });
  });

  test('of a pod that serves, resizes and drains, the answers and messages are those of openapi.yaml', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { ADMIN_TOKEN: TOKEN } });
    const { port } = await kit.ready();
    for (const [path, status] of await answers(kit, AUTHORIZED)) assert.equal(status, 200, path);
    for (const [path, status] of await answers(kit, {})) assert.equal(status, path.endsWith('z') ? 200 : 401, path);
    for (const path of PATHS)
      for (const method of ['OPTIONS', 'POST', 'DELETE']) {
        const { status, headers } = await fetch(`http://127.0.0.1:${kit.adminPort}${path}`, { method, headers: AUTHORIZED });
        assert.equal(status, 405, `${method} ${path}`);
        assertDescribed(path, { status, headers: Object.fromEntries(headers), body: '' });
      }
    const unknown = await request(kit.adminPort, '/nothing', { headers: AUTHORIZED });
    assert.equal(unknown.status, 404);
    assert.deepEqual(
      unknown.body
        .match(/\/\S*(?=,|\n)/g)
        ?.slice(-PATHS.length)
        .sort(),
      [...PATHS].sort(),
      'the paths that there are',
    );

    const stream = await EventReader.open(kit);
    kit.signal('SIGTTOU');
    for (const name of ['history', 'fleet', 'message', 'sample', 'lifecycle']) await stream.message(name);
    await kit.event('worker.exit');

    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=300&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await kit.event('shutdown.drain');
    const draining = await answers(kit, AUTHORIZED);
    assert.deepEqual([draining.get('/livez'), draining.get('/readyz'), draining.get('/startupz')], [200, 503, 503]);
    await kit.exit();
    stream.assertAllDescribed();
  });
});

/** The status of each path but /events; each answer is as described. */
async function answers(kit: Kit, headers: Record<string, string>): Promise<Map<string, number>> {
  const paths = PATHS.filter(path => path !== '/events');
  const all = await Promise.all(paths.map(path => request(kit.adminPort, `${path}?x`, { headers })));
  return new Map(
    all.map((answer, index) => {
      const path = paths[index] ?? '';
      assertDescribed(path, answer);
      return [path, answer.status];
    }),
  );
}

/** What /events sends, message by message. */
class EventReader {
  #text = '';

  static async open(kit: Kit): Promise<EventReader> {
    const reader = new EventReader();
    const { status, headers, body } = await fetch(`http://127.0.0.1:${kit.adminPort}/events`, { headers: AUTHORIZED });
    assertDescribed('/events', { status, headers: Object.fromEntries(headers), body: '' });
    assert.ok(body);
    void body.pipeThrough(new TextDecoderStream()).pipeTo(
      new WritableStream({
        write: text => {
          reader.#text += text;
        },
      }),
    );
    return reader;
  }

  /** Resolves once a message of that name has come. */
  async message(name: string): Promise<void> {
    await until(
      () => this.#messages().some(message => message.name === name) || undefined,
      () => `no ${name}: ${this.#text}`,
    );
  }

  assertAllDescribed(): void {
    for (const { name, data } of this.#messages()) assertMessage(name, JSON.parse(data));
  }

  #messages(): { name: string; data: string }[] {
    return [...this.#text.matchAll(/(?:^event: (\w+)\n)?^data: (.*)\n\n/gm)].map(([, name = 'message', data = '']) => ({
      name,
      data,
    }));
  }
}
