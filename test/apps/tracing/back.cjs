const express = require('express');

const app = express();
app.get('/stock/:id', (req, res) => res.end(`stock of ${req.params.id}`));
app.listen(process.env.PORT);
