const Koa = require('koa');
const logger = require('koa-logger');
const app = new Koa();

app.use(logger());
app.use(async ctx => {
  ctx.body = 'listens';
});

app.listen(3000);
console.log('listens on port 3000');
