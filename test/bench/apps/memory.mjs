/** The workloads of `make bench-memory`: what they keep alive differs, not what they compute. */
import { Readable } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import Koa from 'koa';

const row = id => ({
  id,
  name: `customer ${id}`,
  mail: `customer-${id}@example.com`,
  address: { street: `street ${id % 97}`, city: `city ${id % 31}`, zip: String(10_000 + id) },
  tags: ['a', 'b', String(id % 7)],
  amount: id * 1.01,
  at: new Date(1_700_000_000_000 + id * 1000),
});
const rows = count => Array.from({ length: count }, (_, id) => row(id));
const CATALOG = JSON.stringify(rows(300));

/** A cursor of a database: batches that arrive one after the other. */
async function* batches() {
  for (let batch = 0; batch < 10; batch++) {
    await turn();
    yield rows(20)
      .map(({ id, name, mail, amount }) => `${id};${name};${mail};${amount}\n`)
      .join('');
  }
}

const WORKLOADS = {
  '/small': () => ({ id: 1, name: 'koa', at: Date.now() }),
  /** A query's rows are kept while another service is called. */
  '/held': async () => {
    const found = rows(300);
    await sleep(30);
    return found.filter(({ id }) => id % 10 === 0);
  },
  /** An answer of 55 KB of another service is parsed, changed, and passed on. */
  '/json': () => JSON.parse(CATALOG).map(({ id, name, amount }) => ({ id, name, amount: amount * 1.19 })),
  '/stream': () => Readable.from(batches()),
};

export default new Koa().use(async context => {
  context.body = await WORKLOADS[context.path]?.();
});
