// One plain Koa process.
import app from './koa.mjs';

app.listen(Number(process.env.PORT), '127.0.0.1');
