const express = require('express');
const { WebSocketServer } = require('ws');

const app = express();
app.get('/', (req, res) => res.send('sockets of ws'));
const server = app.listen(process.env.PORT || 3000);
new WebSocketServer({ server }).on('connection', socket => socket.on('message', data => socket.send(String(data))));
