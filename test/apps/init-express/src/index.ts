import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';

const client = createClient({ url: process.env.REDIS_URL });
const app = express();
client.on('error', console.error).connect();
app.use(session({ secret: 'not a secret', resave: false, saveUninitialized: false, store: new RedisStore({ client }) }));
app.get('/api/counter', (request, response) => {
  request.session.counter = (request.session.counter ?? 0) + 1;
  response.json({ counter: request.session.counter, worker: process.pid, pid: process.pid });
});
app.get('/', (_request, response) => response.json({}));
app.listen(process.env.PORT || 3000);
