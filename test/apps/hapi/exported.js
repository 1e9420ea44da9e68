// Its extensions run before a worker serves, and after its last answer.
const server = require('@hapi/hapi').server();
let started = false;
let closed = false;
server.ext('onPostStart', () => {
  started = true;
});
server.ext('onPostStop', () => {
  closed = true;
  console.error(`onPostStop after onPostStart: ${started}`);
});
server.route({ method: 'GET', path: '/', handler: () => ({ closed }) });
module.exports = server;
