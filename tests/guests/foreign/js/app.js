// A server in JavaScript, made a component by componentize-js.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  const variable = (name) => getEnvironment().find(([key]) => key === name)?.[1];
  switch (pathname) {
    case "/backend": {
      const backend = await fetch(searchParams.get("url"));
      return new Response(`${backend.status} ${await backend.text()}`);
    }
    default:
      return new Response(`${variable("GREETING")} from JavaScript ${pathname}\n`);
  }
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
