#!/usr/bin/env node
// Publishes random quotes, in one POST per round: node publish.mjs [URL] [PER_SECOND]
const [url = 'http://127.0.0.1:8080', perSecond = '4'] = process.argv.slice(2);
const quotes = { EURUSD: 1.0874, 黄金: 2650.5, BTC: 97214 };

for (;;) {
  for (const name in quotes) quotes[name] *= 1 + (Math.random() - .5) * .002;
  const messages = Object.entries(quotes).map(([name, price]) =>
    ({ channel: 'quotes.' + name, data: JSON.stringify({ price: Number(price.toPrecision(7)), time: Date.now() }) }));
  try {
    const response = await fetch(url + '/-/publish', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ messages }) });
    if (!response.ok) console.error(await response.text());
  } catch (error) {
    console.error(`${url}: ${error.cause?.message ?? error.message}; retrying`);
  }
  await new Promise(resolve => setTimeout(resolve, 1000 / Number(perSecond)));
}
