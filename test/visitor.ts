/**
 * Somebody with a browser: keeps the cookies that the app sets, and sends them back.
 */
import assert from 'node:assert/strict';
import { type Answer, everyWorker, RawClient } from './process/clients.ts';

export interface Count {
  counter: number;
  worker: number;
  pid: number;
  pod: string;
}

export class Visitor {
  readonly cookies: Map<string, string>;

  constructor(cookies: ReadonlyMap<string, string> = new Map()) {
    this.cookies = new Map(cookies);
  }

  /** On a connection of its own. */
  async request(port: number, path: string): Promise<Answer> {
    await using client = await RawClient.open(port);
    return await this.requestOn(client, path);
  }

  async requestOn(client: RawClient, path: string): Promise<Answer> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await client.request(path, { headers: cookie ? { Cookie: cookie } : {} });
    for (const line of answer.headers['set-cookie']?.split('\n') ?? []) this.#keep(line);
    return answer;
  }

  /** The answer of /api/counter. */
  async count(port: number): Promise<Count> {
    return await this.json<Count>(port, '/api/counter');
  }

  /** Visits until each of so many workers has counted one further, from `before` on; all counts. */
  async countOnEveryWorker(port: number, workers: number, before = 0): Promise<Count[]> {
    const counts: Count[] = [];
    await everyWorker(port, workers, async client => {
      const count = jsonOf<Count>(await this.requestOn(client, '/api/counter'));
      counts.push(count);
      assert.equal(count.counter, before + counts.length);
      return count.worker;
    });
    return counts;
  }

  /** The JSON of a route. */
  async json<T>(port: number, path: string): Promise<T> {
    return jsonOf<T>(await this.request(port, path));
  }

  #keep(line: string): void {
    const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
    const expires = /; expires=([^;]+)/i.exec(line)?.[1];
    if (expires !== undefined && Date.parse(expires) <= Date.now()) this.cookies.delete(name);
    else this.cookies.set(name, value);
  }
}

export function jsonOf<T>({ status, body }: Answer): T {
  assert.equal(status, 200, body);
  return JSON.parse(body) as T;
}
