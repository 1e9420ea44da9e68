const express = require('express');
const session = require('express-session');

const app = express();
app.use(session({ secret: 'keep it', resave: false, saveUninitialized: false }));

app.get('/count', (request, response) => {
  request.session.count = (request.session.count ?? 0) + 1;
  response.json({ count: request.session.count, pid: process.pid });
});
app.get('/slow', (_request, response) => setTimeout(() => response.send('done'), 1000));

app.listen(3000);
