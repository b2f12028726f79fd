// client.java PROTOCOLS URL: echoes until either end closes, part by part as they come; pings or closes when it is
// told so. PROTOCOLS is a list in JSON, of names without anything that would have to be escaped.

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.regex.Pattern;

class Client implements WebSocket.Listener {
    private final CountDownLatch ended = new CountDownLatch(1);
    private boolean first = true;

    public static void main(String[] arguments) throws Exception {
        List<String> protocols = new ArrayList<>();
        var names = Pattern.compile("\"([^\"]*)\"").matcher(arguments[0].replace("\"protocols\"", ""));
        while (names.find()) protocols.add(names.group(1));
        endWithStdin();

        var client = new Client();
        var builder = HttpClient.newHttpClient().newWebSocketBuilder();
        if (!protocols.isEmpty()) {
            var others = protocols.subList(1, protocols.size()).toArray(new String[0]);
            builder.subprotocols(protocols.get(0), others);
        }
        builder.buildAsync(URI.create(arguments[1]), client).join();
        client.ended.await();
        System.exit(0);
    }

    // Whoever started this holds the other end of the pipe.
    private static void endWithStdin() {
        var waits = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException error) {
                say("error " + error);
            }
            System.exit(0);
        });
        waits.setDaemon(true);
        waits.start();
    }

    private static void say(String line) {
        var bytes = (line.stripTrailing() + "\n").getBytes(java.nio.charset.StandardCharsets.UTF_8);
        System.out.write(bytes, 0, bytes.length);
        System.out.flush();
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
        var text = data.toString();
        var whole = first && last;
        first = last;
        CompletionStage<WebSocket> sent;
        if (whole && text.startsWith("close ")) {
            var words = text.split(" ", 3);
            sent = socket.sendClose(Integer.parseInt(words[1]), words[2]);
        } else if (whole && text.equals("ping")) {
            sent = socket.sendPing(ByteBuffer.wrap(new byte[] {1, 2, 3})).thenCompose(s -> s.sendText("pinged", true));
        } else {
            sent = socket.sendText(text, last);
        }
        return sent.thenRun(() -> socket.request(1));
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
        first = last;
        return socket.sendBinary(data, last).thenRun(() -> socket.request(1));
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        say("closed " + code + " " + reason);
        // It would answer by itself, but not say when it has.
        var answered = socket.isOutputClosed() ? null : socket.sendClose(code, reason);
        if (answered == null) ended.countDown();
        else answered.whenComplete((sent, error) -> ended.countDown());
        return answered;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        say("error " + error);
        ended.countDown();
    }
}
