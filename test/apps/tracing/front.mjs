import { setTimeout as sleep } from 'node:timers/promises';
import Router from '@koa/router';
import Koa from 'koa';

export default kit => {
  const router = new Router();
  router.get('/orders/:id', async ctx => {
    kit.log.info({ event: 'test.order', order: ctx.params.id });
    await kit.redis?.get('orders');
    const stock = await fetch(`${process.env.BACK}/stock/${ctx.params.id}`);
    if (ctx.params.id === 'slow') await sleep(500);
    ctx.body = await stock.text();
  });
  return new Koa().use(router.routes());
};
