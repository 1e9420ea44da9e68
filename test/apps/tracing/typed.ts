import Router from '@koa/router';
import Koa from 'koa';

// Node.js strips types and cannot run this: the kit uses tsx.
enum Unit {
  Piece = 'piece',
}

const router = new Router();
router.get('/units/:id', ctx => {
  ctx.body = Unit.Piece;
});
export default new Koa().use(router.routes());
