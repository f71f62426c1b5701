-- Creates the login of the running parts, which owns nothing. The postgres image runs this once, on an empty volume.
\getenv service_password METERING_SERVICE_PASSWORD
CREATE ROLE metering_service NOLOGIN;
CREATE ROLE metering_app LOGIN PASSWORD :'service_password' IN ROLE metering_service;
