import Koa from 'koa';
import type { App, Kit, SessionContext } from 'koa-bosun';

const create = (kit: Kit): Koa<Koa.DefaultState, SessionContext> => {
  const app = new Koa<Koa.DefaultState, SessionContext>();
  app.use(kit.session);
  app.use(ctx => {
    ctx.body = { visits: ctx.session?.visits, worker: kit.workerId };
  });
  kit.onClose(() => kit.redis?.quit());
  return app;
};
const app: App = create;
export default app;

function wrong(kit: Kit): void {
  // @ts-expect-error: it is read-only, and no string: the types are there
  kit.workerId = 'one';
}
