const compose = require('koa-compose');
const Koa = require('koa');
const app = (module.exports = new Koa());
const hosts = { '127.0.0.1': require('./hosts/own'), 'bar.example.com': require('./hosts/other') };
const composed = Object.fromEntries(
  Object.entries(hosts).map(([name, host]) => [name, compose(host instanceof Koa ? host.middleware : host)]),
);

app.use((ctx, next) => composed[ctx.hostname]?.(ctx, next) ?? next());

if (!module.parent) app.listen(3000);
