const Koa = require('koa');
const JSONStream = require('streaming-json-stringify');
const app = (module.exports = new Koa());

app.use(async ctx => {
  ctx.type = 'json';
  const stream = (ctx.body = JSONStream());
  stream.on('error', ctx.onerror);
  setImmediate(() => {
    stream.write({ id: 1 });
    setImmediate(() => stream.end({ id: 2 }));
  });
});

if (!module.parent) app.listen(3000);
