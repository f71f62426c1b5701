-- Run once, by the postgres image, on an empty volume: the login of the running parts. It owns nothing.
\getenv service_password METERING_SERVICE_PASSWORD
CREATE ROLE metering_service NOLOGIN;
CREATE ROLE metering_app LOGIN PASSWORD :'service_password' IN ROLE metering_service;
