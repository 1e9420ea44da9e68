const path = require('path');
const Koa = require('koa');
const body = require('koa-body');
const serve = require('koa-static');
const app = new Koa();

app.use(body({ multipart: true }));
app.use(serve(path.join(__dirname, 'public')));
app.use(ctx => {
  ctx.body = Object.keys(ctx.request.files || {}).join();
});

app.listen(3000);
