<?php
// A stand-in for Meilisearch, as far as Apiary's search needs it. An index is a file in its volume.
//
//     GET    /health
//     POST   /indexes/UID/documents      adds documents, or replaces those with the same id
//     DELETE /indexes/UID/documents
//     GET    /indexes/UID/stats
//     GET    /indexes/UID/search?q=WORD  documents with a field that begins with the word

declare(strict_types=1);

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$known = preg_match('~^/indexes/(\w+)/(documents|stats|search)$~', $path, $found);
$file = $known ? "/meili_data/$found[1].json" : '';
$documents = is_file($file) ? json_decode(file_get_contents($file), true) : [];

function keep(string $file, array $documents): array
{
    file_put_contents("$file.new", json_encode($documents));
    rename("$file.new", $file);
    return ['status' => 'succeeded'];
}

function hits(array $documents, string $word): array
{
    $begins = fn (array $document) => array_filter($document, fn ($field) => stripos((string) $field, $word) === 0);
    return array_values(array_filter($documents, $begins));
}

$answer = match ([$_SERVER['REQUEST_METHOD'], $known ? $found[2] : $path]) {
    ['GET', '/health'] => ['status' => 'available'],
    ['POST', 'documents'] =>
        keep($file, array_column(json_decode(file_get_contents('php://input'), true), null, 'id') + $documents),
    ['DELETE', 'documents'] => keep($file, []),
    ['GET', 'stats'] => ['numberOfDocuments' => count($documents)],
    ['GET', 'search'] => ['hits' => hits($documents, $_GET['q'] ?? '')],
    default => null,
};
http_response_code($answer === null ? 404 : 200);
echo json_encode($answer ?? ['message' => 'Not Found']) . "\n";
