// Its hooks run once a worker serves, and after its last answer.
const app = require('fastify')();
let listening = false;
let closed = false;
app.addHook('onListen', async () => {
  listening = true;
});
app.addHook('onClose', async () => {
  closed = true;
  console.error(`onClose after onListen: ${listening}`);
});
app.get('/', async () => ({ closed }));
module.exports = app;
