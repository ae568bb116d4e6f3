// Makes a title into what can stand in an address: {"title": "Ça va?"} -> {"slug": "ca-va"}.
"use strict";

exports.handler = async (event, context) => {
  if (typeof event?.title !== "string") throw new TypeError("the event has no title");
  const slug = event.title
    .normalize("NFKD")
    .replace(/\p{Mark}/gu, "")
    .toLowerCase()
    .replace(/[^\p{Letter}\p{Number}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  console.log(`${context.functionName}: ${slug}`);
  return { slug };
};
